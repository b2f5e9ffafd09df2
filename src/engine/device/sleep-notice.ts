/**
 * SYSTEM_SLEEP, a feature of ours, for users who hear by eventfds: programs at the ioctl door and clients of a vfio-user server (S2-42). Two eventfds,
 * signalled when the machine is about to sleep and when it is awake again; SYSTEM_SLEEP_ACK acknowledges. Without that in
 * time the suspend eventfd is signalled once more when the machine sleeps, and the resume eventfd as often as it: a user who counts both knows how things
 * stand, however late it looks.
 */
import type { InterruptSink } from '../../abi/device.ts';
import { VfioError } from '../../base/errno.ts';
import type { DeviceFile } from './device-file.ts';

export class SleepNotice implements Disposable {
  readonly #file: DeviceFile;
  #sinks: readonly (InterruptSink | null)[] = [];
  #listening: Disposable | null = null;
  #acknowledge: (() => void) | null = null;
  /** Signals of the suspend eventfd since `arm`. */
  #count = 0;
  /** As many resumes are to follow. */
  #owed = 0;

  constructor(file: DeviceFile) {
    this.#file = file;
  }

  get armed(): boolean {
    return this.#listening !== null;
  }

  /** In place of those of before. Without a suspend sink nothing is heard of, and nothing is waited for. */
  arm(suspend: InterruptSink | null, resume: InterruptSink | null): void {
    const sinks = [suspend, resume].map((sink) => sink?.get() ?? null);
    this[Symbol.dispose]();
    this.#sinks = sinks;
    if (suspend === null) return;
    this.#listening = this.#file.on(
      (event) => {
        if (event.kind === 'suspend') {
          this.#acknowledge = event.acknowledge;
          this.#tell();
        } else if (event.kind === 'asleep') {
          if (this.#acknowledge !== null) this.#tell();
        } else {
          this.#acknowledge = null;
          for (; this.#owed > 0; this.#owed--) this.#sinks[1]?.signal();
        }
      },
      ['suspend', 'asleep', 'resume'],
    );
  }

  #tell(): void {
    this.#count++;
    this.#owed++;
    this.#sinks[0]?.signal();
  }

  /**
   * Nothing where nothing waits for it.
   *
   * @param count  what the suspend eventfd has counted, where the user says so   @throws VfioError EAGAIN: it was signalled again since
   */
  acknowledge(count?: bigint): void {
    if (count !== undefined && count !== BigInt(this.#count)) {
      throw new VfioError('EAGAIN', `the suspend eventfd was signalled ${this.#count} times, and ${count} are acknowledged`, {
        fix: 'Read the suspend eventfd again.',
      });
    }
    const acknowledge = this.#acknowledge;
    this.#acknowledge = null;
    acknowledge?.();
  }

  /** Idempotent. */
  [Symbol.dispose](): void {
    this.#listening?.[Symbol.dispose]();
    this.#listening = null;
    this.#acknowledge = null;
    this.#count = 0;
    this.#owed = 0;
    for (const sink of this.#sinks) sink?.put();
    this.#sinks = [];
  }
}
