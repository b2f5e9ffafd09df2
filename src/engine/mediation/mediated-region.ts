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
    const done = this.#mediation.run('read', (handle) => hook(handle, offset, into, this.#direct));
    return done === PASS_THROUGH ? this.#direct.read(offset, into) : this.#count(done, into.length);
  }

  protected writeAwake(offset: number, from: Uint8Array): number {
    if ((this.info.flags & RegionFlags.WRITE) === 0)
      throw new VfioError('EINVAL', `${this.name} cannot be written: its mediator forbids it`);
    const hook = this.#hooks.write;
    if (hook === undefined) return this.#direct.write(offset, from);
    const done = this.#mediation.run('write', (handle) => hook(handle, offset, from, this.#direct));
    return done === PASS_THROUGH ? this.#direct.write(offset, from) : this.#count(done, from.length);
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
