/** Who decides about an access of config space, and by which rule: for its event. */
import type { AccessEvent } from '../../abi/event.ts';
import type { PermissionMap } from '../../pci/permission-map.ts';

export interface Verdict {
  readonly verdict: AccessEvent['verdict'];
  /** Why the first bit that is not the device's is as it is; absent where all are. */
  readonly rule?: string;
}

/** Verdicts that are remembered: those of a register are asked for again and again. */
const KEPT = 1024;

export class ConfigVerdicts {
  readonly #map: PermissionMap;
  readonly #kept = new Map<number, Verdict>();

  constructor(map: PermissionMap) {
    this.#map = map;
  }

  /** [offset, offset + size) is inside of config space. */
  of(write: boolean, offset: number, size: number): Verdict {
    const key = (offset * 8192 + size) * 2 + (write ? 1 : 0);
    const kept = this.#kept.get(key);
    if (kept !== undefined) return kept;
    const made = this.#decide(write, offset, size);
    if (this.#kept.size < KEPT) this.#kept.set(key, made);
    return made;
  }

  #decide(write: boolean, offset: number, size: number): Verdict {
    const { virt } = this.#map;
    let device = false;
    let copy = false;
    let rule: string | undefined;
    for (let at = offset; at < offset + size; at++) {
      const may = write ? this.#map.write[at]! : 0xff;
      const direct = may & ~virt[at]!;
      if (direct !== 0) device = true;
      if ((may & virt[at]!) !== 0) copy = true;
      const other = ~direct & 0xff;
      if (other !== 0) rule ??= this.#map.whyAt(at, 31 - Math.clz32(other & -other));
    }
    if (rule === undefined) return { verdict: 'device' };
    return { verdict: device ? 'mixed' : copy ? 'virtual' : 'dropped', rule };
  }
}
