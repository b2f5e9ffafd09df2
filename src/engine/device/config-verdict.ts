/** Who decides about an access of config space, and by which rule: for its event. */
import type { AccessEvent } from '../../abi/event.ts';
import type { ConfigField, PermissionMap } from '../../pci/permission-map.ts';

export interface Verdict {
  readonly verdict: AccessEvent['verdict'];
  /**
   * Why the first bit of a register that is not the device's is as it is; absent where all are. An
   * access of several registers has a rule for each, behind its name.
   */
  readonly rule?: string;
}

/** Verdicts that are remembered: those of a register are asked for again and again. */
const KEPT = 1024;
/** Rules of one access, and registers of a rule: an access may be of the whole config space. */
const RULES_MAX = 4;
const NAMES_MAX = 8;

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
    const rules = new Rules();
    for (let at = offset; at < offset + size; at++) {
      const may = write ? this.#map.write[at]! : 0xff;
      const direct = may & ~virt[at]!;
      if (direct !== 0) device = true;
      if ((may & virt[at]!) !== 0) copy = true;
      const other = ~direct & 0xff;
      const register = this.#map.fieldAt(at);
      rules.see(register, other === 0 ? null : this.#map.whyAt(at, 31 - Math.clz32(other & -other)));
    }
    const rule = rules.text();
    if (rule === null) return { verdict: 'device' };
    return { verdict: device ? 'mixed' : copy ? 'virtual' : 'dropped', rule };
  }
}

/** The rules of an access, in the order of its bytes. */
class Rules {
  /** Names of the registers that have a rule. */
  readonly #names = new Map<string, Set<string>>();
  #registers = 0;
  #last: Pick<ConfigField, 'offset'> = { offset: -1 };
  #hasRule = false;

  /** @param why  of the first bit of this byte that is not the device's */
  see(register: ConfigField, why: string | null): void {
    if (register.offset !== this.#last.offset) {
      this.#registers++;
      this.#hasRule = false;
    }
    this.#last = register;
    if (why === null || this.#hasRule) return;
    this.#hasRule = true;
    const names = this.#names.get(why);
    if (names === undefined) this.#names.set(why, new Set([register.name]));
    else names.add(register.name);
  }

  /** @returns null where all is the device's */
  text(): string | null {
    if (this.#names.size === 0) return null;
    const rules = [...this.#names].map(([why, names]) => (this.#registers === 1 ? why : `${someOf([...names], NAMES_MAX, ', ')}: ${why}`));
    return someOf(rules, RULES_MAX, '; ');
  }
}

/** The first texts of a list, and how many more there are. */
function someOf(texts: readonly string[], most: number, between: string): string {
  const rest = texts.length - most;
  return rest <= 0 ? texts.join(between) : [...texts.slice(0, most), `${rest} more`].join(between);
}
