/** A mediator's part in one device, from the first open to the last close. */
import type { FeatureRequest, IrqInfo, RegionInfo, RegionMapping, SetIrqs } from '../../abi/device.ts';
import type { ModelMigration } from '../../abi/device-host.ts';
import { type Accepted, type IrqHooks, type Mediator, PASS_THROUGH, type RegionHooks } from '../../abi/mediator.ts';
import { Feature, IrqInfoFlags, NUM_IRQS, NUM_REGIONS } from '../../abi/vfio.ts';
import { VfioError } from '../../base/errno.ts';
import { callForeign, type Failed, settle, textOf } from '../../base/foreign.ts';
import type { EventSource } from '../../events/source.ts';
import { addedRegions, type MediatorRegion } from './added-regions.ts';
import { checkedInfo } from './checked-info.ts';

export class Mediation {
  readonly name: string;
  readonly migration: ModelMigration | undefined;
  readonly notesWrites: boolean;
  /** The device's last regions. */
  readonly addedRegions: readonly MediatorRegion[];
  readonly #firstAdded: number;
  readonly #mediator: Mediator;
  readonly #handle: unknown;
  /** Hooks by index, copied at open and frozen until release (S0-09). */
  readonly #regions: readonly (RegionHooks<unknown> | null)[];
  readonly #irqs: readonly (IrqHooks<unknown> | null)[];
  readonly #feature: Accepted<unknown>['feature'];
  readonly #device: string;
  readonly #events: EventSource;
  readonly #released: () => void;
  #isReleased = false;
  /** Reports a failure of the mediator that its user gets no errno for. */
  readonly failed: Failed = (what, error) =>
    this.#events.note(
      'error',
      `mediator ${this.name} ${what}`,
      `${this.#device}: mediator '${this.name}': ${what} failed: ${textOf(error)}`,
    );

  /**
   * @param released called after the mediator's own release, once
   * @throws TypeError for hooks that cannot be called: it has not accepted then
   */
  constructor(
    mediator: Mediator,
    accepted: Accepted<unknown>,
    device: string,
    events: EventSource,
    released: () => void,
    numRegions: number = NUM_REGIONS,
  ) {
    this.name = mediator.name;
    this.#mediator = mediator;
    this.#handle = accepted.handle;
    this.#firstAdded = numRegions;
    this.addedRegions = addedRegions(mediator.name, accepted.addedRegions, numRegions);
    this.#regions = [
      ...Array.from({ length: numRegions }, (_, i) => copied(accepted.regions?.[i], `region ${i}`)),
      ...this.addedRegions.map(({ hooks }) => hooks),
    ];
    this.#irqs = Array.from({ length: NUM_IRQS }, (_, i) => copied(accepted.irqs?.[i], `IRQ index ${i}`));
    this.#feature = accepted.feature;
    if (this.#feature !== undefined) checkHook(this.#feature, 'feature');
    this.migration = accepted.migration;
    if (this.migration !== undefined) for (const name of migrationMethods) checkHook(this.migration[name], `migration.${name}`);
    this.notesWrites = accepted.notesWrites === true;
    this.#device = device;
    this.#events = events;
    this.#released = released;
  }

  /** Null where the region is not mediated: accesses then cost nothing more. */
  region(index: number): RegionHooks<unknown> | null {
    return this.#regions[index] ?? null;
  }

  /** Null for a region of the device's own. */
  added(index: number): MediatorRegion | null {
    return this.addedRegions[index - this.#firstAdded] ?? null;
  }

  /**
   * A region's information, as the mediator changes it.
   *
   * @throws VfioError what the hook throws; EIO for a change of index or size (S0-05)
   */
  regionInfo(index: number, info: RegionInfo): RegionInfo {
    const hook = this.#regions[index]?.info;
    if (hook === undefined) return info;
    const changed = this.run('region info', (handle) => hook(handle, info));
    if (changed?.index !== info.index || changed.size !== info.size) throw this.#bug('region info', new Error('it changed index or size'));
    try {
      return checkedInfo(changed);
    } catch (error) {
      throw this.#bug('region info', error);
    }
  }

  irqInfo(index: number, info: IrqInfo): IrqInfo {
    const hook = this.#irqs[index]?.info;
    if (hook === undefined) return info;
    const changed = this.run('IRQ info', (handle) => hook(handle, info));
    if (changed?.index === info.index && Number.isSafeInteger(changed.count) && changed.count >= 0) return changed;
    throw this.#bug('IRQ info', new Error('it changed the index, or has no number of interrupts'));
  }

  /**
   * The answer of a hook for an interrupt index holds for the device's user.
   *
   * @throws VfioError EINVAL more interrupts than it counts, or an eventfd where it takes none;
   * ENOTTY a mask where it has none
   */
  #checkNarrowed(request: SetIrqs, info: (index: number) => IrqInfo): void {
    if (this.#irqs[request?.index]?.info === undefined) return;
    const { index, start, count, action, data } = request;
    const told = this.irqInfo(index, info(index));
    const what = `${this.#device}: IRQ index ${index}`;
    if (start + count > told.count) throw new VfioError('EINVAL', `${what}: interrupts ${start} to ${start + count - 1} of ${told.count}`);
    if (action !== 'trigger' && (told.flags & IrqInfoFlags.MASKABLE) === 0) throw new VfioError('ENOTTY', `${what} cannot be ${action}ed`);
    if (data === 'sinks' && (told.flags & IrqInfoFlags.EVENTFD) === 0) throw new VfioError('EINVAL', `${what} signals no eventfd`);
  }

  /**
   * @param info of an index, before its hook
   * @throws VfioError EINVAL, ENOTTY against the answer of the hook for its info
   */
  setIrqs(request: SetIrqs, direct: (request: SetIrqs) => number, info: (index: number) => IrqInfo): number {
    this.#checkNarrowed(request, info);
    const hook = this.#irqs[request.index]?.set;
    if (hook === undefined) return direct(request);
    const done = this.run('SET_IRQS', (handle) => hook(handle, request, direct));
    return done === PASS_THROUGH ? direct(request) : this.#number('SET_IRQS', done, Number.MAX_SAFE_INTEGER);
  }

  /**
   * Ask the hook, which never sees a VF token (S3-05).
   *
   * @param own whether an answer that is not `direct`'s may be one
   * @throws VfioError what the hook throws; EIO for an answer that is none
   */
  feature<T>(request: FeatureRequest, direct: () => T, own: (done: unknown) => done is T): { readonly answer: T } {
    const hook = this.#feature;
    if (hook === undefined || request?.feature === Feature.PCI_VF_TOKEN) return { answer: direct() };
    const answers: T[] = [];
    const noted = () => {
      answers.push(direct());
      return answers.at(-1);
    };
    const done: unknown = this.run('FEATURE', (handle) => hook(handle, request, noted));
    if (done === PASS_THROUGH) return { answer: direct() };
    if (answers.length > 0 && answers.at(-1) === done) return { answer: done as T };
    if (own(done)) return { answer: done };
    throw this.#bug('FEATURE', new Error(`it answered ${String(done)}`));
  }

  #number(what: string, done: number, most: number): number {
    if (Number.isSafeInteger(done) && done >= 0 && done <= most) return done;
    throw this.#bug(what, new Error(`it answered ${String(done)}`));
  }

  /** @throws VfioError EIO for a value that is no mapping */
  mapping(done: RegionMapping): RegionMapping {
    if (typeof done?.[Symbol.dispose] === 'function') return done;
    throw this.#bug('map', new Error(`it answered ${String(done)}, which is no mapping`));
  }

  /**
   * @throws VfioError the error of the hook; EIO for every other error, and for an async hook: a
   * bug of the mediator, which is logged and hurts no other device
   */
  run<T>(what: string, hook: (handle: unknown) => T): T {
    let done: T;
    try {
      done = hook(this.#handle);
    } catch (error) {
      if (error instanceof VfioError) throw error;
      throw this.#bug(what, error);
    }
    if (typeof done !== 'number' && settle(what, done, this.failed)) throw this.#bug(what, new Error(ASYNC));
    return done;
  }

  /** Releases once, whatever path leads here (S0-15). */
  release(): void {
    if (this.#isReleased) return;
    this.#isReleased = true;
    callForeign('release', () => this.#mediator.release(this.#handle), this.failed);
    this.#released();
  }

  #bug(what: string, error: unknown): VfioError {
    this.failed(what, error);
    return new VfioError('EIO', `${this.#device}: mediator '${this.name}' failed in ${what}`, { cause: error });
  }
}

const ASYNC = 'it is async; a hook answers when it returns';

const migrationMethods = ['stop', 'start', 'save', 'load'] as const;

function copied<T extends object>(hooks: T | undefined, whose: string): T | null {
  if (hooks === undefined) return null;
  if (typeof hooks !== 'object' || hooks === null) throw new TypeError(`its hooks of ${whose} are ${String(hooks)}`);
  const own = Object.freeze({ ...hooks });
  for (const [name, hook] of Object.entries(own)) if (hook !== undefined) checkHook(hook, `${whose}.${name}`);
  return own;
}

function checkHook(hook: unknown, name: string): void {
  if (typeof hook !== 'function') throw new TypeError(`its hook ${name} is no function`);
}
