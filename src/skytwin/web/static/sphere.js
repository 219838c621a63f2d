// The sky on a plane, east to the left: all of it, or a part around a place. Equal areas both ways.

const RAD = Math.PI / 180;
export const wrap = (degrees) => ((degrees % 360) + 540) % 360 - 180;

/** A view of the sky: `radius` in degrees reaches from its middle to the upper edge; from 90 on it is all of the sky. */
export class View {
  constructor({ ra, dec, radius }, width, height) {
    Object.assign(this, { ra, dec, radius, width, height });
    this.whole = radius >= 90;
    this.scale = this.whole ? Math.min(width / (4 * Math.SQRT2), height / (2 * Math.SQRT2)) * 0.97
      : height / 2 / (2 * Math.sin(radius * RAD / 2));
  }

  /** Hammer 1892, or Lambert's azimuthal projection; `far` is RA less that of the middle. Null: behind. */
  plane(far, dec) {
    const lon = far * RAD, lat = dec * RAD;
    if (this.whole) {
      const d = Math.sqrt(1 + Math.cos(lat) * Math.cos(lon / 2));
      return [-2 * Math.SQRT2 * Math.cos(lat) * Math.sin(lon / 2) / d, Math.SQRT2 * Math.sin(lat) / d];
    }
    const lat0 = this.dec * RAD;
    const cos = Math.sin(lat0) * Math.sin(lat) + Math.cos(lat0) * Math.cos(lat) * Math.cos(lon);
    if (cos < -0.9) return null;
    const k = Math.sqrt(2 / (1 + cos));
    return [-k * Math.cos(lat) * Math.sin(lon), k * (Math.cos(lat0) * Math.sin(lat) - Math.sin(lat0) * Math.cos(lat) * Math.cos(lon))];
  }

  /** Pixels of a place. */
  at(ra, dec, far = wrap(ra - this.ra)) {
    const found = this.plane(far, dec);
    return found && [this.width / 2 + found[0] * this.scale, this.height / 2 - found[1] * this.scale];
  }

  /** Moved by pixels. */
  moved(dx, dy) {
    const step = 1 / (this.scale * RAD);
    const dec = Math.max(-90, Math.min(90, this.dec + (this.whole ? 0 : dy * step)));
    const stretch = this.whole ? 1 : Math.max(0.05, Math.cos(dec * RAD));
    return { ra: (this.ra + dx * step / stretch + 360) % 360, dec, radius: this.radius };
  }

  /** How far the corners are, in degrees. */
  get reach() {
    return Math.min(180, this.radius * Math.hypot(1, this.width / this.height) * 1.02);
  }
}

/** A step for lines about a quarter of the view apart. */
export function step(radius) {
  const nice = [30, 15, 10, 5, 2, 1, 0.5, 0.2, 0.1, 0.05, 0.02, 0.01, 0.005, 0.002, 0.001, 0.0005];
  return nice.find((one) => one <= radius / 1.4) ?? nice.at(-1);
}
