/**
 * A region that a mediator wants to see: each access goes to the mediator's hook first, and to the
 * region itself where the hook passes.
 */
import type { RegionInfo, RegionMapping } from '../../abi/device.ts';
import { PASS_THROUGH, type RegionHooks } from '../../abi/mediator.ts';
import { RegionFlags } from '../../abi/vfio.ts';
import { VfioError } from '../../base/errno.ts';
import { checkMapRange } from '../../device/map-range.ts';
import { FileRegion } from '../device/region-io.ts';
import type { RegionFile } from '../device/region-ports.ts';
import { accessDetails } from '../device/seen-access.ts';
import type { Mediation } from './mediation.ts';

export class MediatedRegion extends FileRegion {
  readonly #mediation: Mediation;
  readonly #hooks: RegionHooks<unknown>;
  readonly #direct: FileRegion;

  constructor(file: RegionFile, info: RegionInfo, mediation: Mediation, hooks: RegionHooks<unknown>, direct: FileRegion) {
    super(file, info);
    this.#mediation = mediation;
    this.#hooks = hooks;
    this.#direct = direct;
  }

  protected readAwake(offset: number, into: Uint8Array): number {
    if ((this.info.flags & RegionFlags.READ) === 0) throw new VfioError('EINVAL', `${this.name} cannot be read: its mediator forbids it`);
    const hook = this.#hooks.read;
    if (hook === undefined) return this.#direct.read(offset, into);
    const done = this.#hooked(false, offset, into, () => this.#mediation.run('read', (handle) => hook(handle, offset, into, this.#direct)));
    return done === PASS_THROUGH ? this.#direct.read(offset, into) : done;
  }

  protected writeAwake(offset: number, from: Uint8Array): number {
    if ((this.info.flags & RegionFlags.WRITE) === 0)
      throw new VfioError('EINVAL', `${this.name} cannot be written: its mediator forbids it`);
    const hook = this.#hooks.write;
    if (hook === undefined) return this.#direct.write(offset, from);
    const done = this.#hooked(true, offset, from, () => this.#mediation.run('write', (handle) => hook(handle, offset, from, this.#direct)));
    return done === PASS_THROUGH ? this.#direct.write(offset, from) : done;
  }

  /** The answer of the hook, checked. Accesses of the hook name its event as their cause. */
  #hooked(write: boolean, offset: number, bytes: Uint8Array, run: () => number | typeof PASS_THROUGH): number | typeof PASS_THROUGH {
    const { events } = this;
    const before = events.cause;
    const seq = events.begin('access');
    if (seq !== 0) events.cause = seq;
    let passed = false;
    let failed = true;
    try {
      const done = run();
      passed = done === PASS_THROUGH;
      if (done !== PASS_THROUGH) this.#count(done, bytes.length);
      failed = false;
      return done;
    } finally {
      events.cause = before;
      // An access that passes has the event of the region itself, and one that fails its refusal.
      if (seq !== 0 && !((passed || failed) && events.withdraw(seq))) {
        const rule = `${this.#mediation.name}${passed ? ' passes it' : failed ? ' fails' : ''}`;
        const access = { write, region: this.info.index, offset, size: bytes.length, bytes: this.plain || passed || failed ? null : bytes };
        events.end(seq, 'access', accessDetails(access, 'mediator', rule));
      }
    }
  }

  /** A hook moves the bytes of plain memory, too. */
  override get plain(): boolean {
    return this.#direct.plain;
  }

  override map(offset = 0, size: number = this.info.size - offset): RegionMapping {
    this.file.checkLive();
    // A mediator that clears the flag, or leaves areas out, wants to see each access.
    checkMapRange(this.name, this.info, offset, size, this.device.ctx.pageSize);
    const hook = this.#hooks.map;
    const done = hook === undefined ? PASS_THROUGH : this.#mediation.run('map', (handle) => hook(handle, offset, size, this.#direct));
    return done === PASS_THROUGH ? this.#direct.map(offset, size) : this.#mediation.mapping(done);
  }

  #count(done: number, length: number): number {
    if (Number.isInteger(done) && done >= 0 && done <= length) return done;
    throw new VfioError('EIO', `${this.name}: mediator '${this.#mediation.name}' says that ${String(done)} of ${length} bytes were moved`);
  }
}
