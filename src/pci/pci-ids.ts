/**
 * Names of vendors, devices, subsystems and classes: out of the pci.ids database, as lspci does
 * (pci.ids(5)).
 */
export interface DecodedId {
  readonly id: number;
  readonly name?: string;
}

export interface PciNames {
  vendor(vendor: number): string | undefined;
  device(vendor: number, device: number): string | undefined;
  subsystem(vendor: number, device: number, subsystemVendor: number, subsystem: number): string | undefined;
  baseClass(base: number): string | undefined;
  subClass(base: number, sub: number): string | undefined;
  progIf(base: number, sub: number, progIf: number): string | undefined;
}

const key = (...numbers: readonly number[]): string => numbers.map((n) => n.toString(16)).join(' ');

/**
 * The database's text, parsed. Lines are `vendor name`, a tab and `device name`, two tabs and
 * `subvendor subdevice name`; classes start with `C base`, and have sub-classes and programming
 * interfaces below them. Other lines are skipped.
 */
export class PciIds implements PciNames {
  readonly #names = new Map<string, string>();

  constructor(text: string) {
    let kind = '';
    let first = 0;
    let second = 0;
    for (const line of text.split('\n')) {
      if (line === '' || line.startsWith('#')) continue;
      const match = /^(\t{0,2})(C )?([0-9a-f]{2,4})(?: ([0-9a-f]{4}))? {2}(.+)$/.exec(line);
      if (match === null) {
        // Other kinds of entries, with what belongs to them.
        if (!line.startsWith('\t')) kind = '';
        continue;
      }
      const id = Number.parseInt(match[3]!, 16);
      const name = match[5]!;
      if (match[1] === '') {
        kind = match[2] === undefined ? 'V' : 'C';
        first = id;
        this.#names.set(`${kind} ${key(first)}`, name);
      } else if (kind === '') {
      } else if (match[1] === '\t') {
        second = id;
        this.#names.set(`${kind} ${key(first, second)}`, name);
      } else {
        const ids = match[4] === undefined ? [id] : [id, Number.parseInt(match[4], 16)];
        this.#names.set(`${kind} ${key(first, second, ...ids)}`, name);
      }
    }
  }

  vendor(vendor: number): string | undefined {
    return this.#names.get(`V ${key(vendor)}`);
  }

  device(vendor: number, device: number): string | undefined {
    return this.#names.get(`V ${key(vendor, device)}`);
  }

  /** A subsystem whose ids are the device's own is the device. */
  subsystem(vendor: number, device: number, subsystemVendor: number, subsystem: number): string | undefined {
    const own = this.#names.get(`V ${key(vendor, device, subsystemVendor, subsystem)}`);
    return own ?? (vendor === subsystemVendor && device === subsystem ? this.device(vendor, device) : undefined);
  }

  baseClass(base: number): string | undefined {
    return this.#names.get(`C ${key(base)}`);
  }

  subClass(base: number, sub: number): string | undefined {
    return this.#names.get(`C ${key(base, sub)}`);
  }

  progIf(base: number, sub: number, progIf: number): string | undefined {
    return this.#names.get(`C ${key(base, sub, progIf)}`);
  }
}
