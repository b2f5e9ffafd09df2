/**
 * SYSTEM_SLEEP, a feature of this engine, for users who hear by eventfds: programs at the ioctl
 * door and clients of a vfio-user server (S2-42). The machine signals one eventfd when it is about
 * to sleep, and the other when it is awake again; SYSTEM_SLEEP_ACK acknowledges. Without a timely
 * acknowledgement the machine signals the suspend eventfd once more when it sleeps. It signals the
 * resume eventfd as often as the suspend eventfd. A user who counts both knows the state, however
 * late it looks.
 */
import type { Device, InterruptSink } from '../../abi/device.ts';
import { VfioError } from '../../base/errno.ts';

/** The device file, as its sleep notice sees it. */
type NoticedFile = Pick<Device, 'on'>;

export class SleepNotice implements Disposable {
  readonly #file: NoticedFile;
  #sinks: readonly (InterruptSink | null)[] = [];
  #listening: Disposable | null = null;
  #acknowledge: (() => void) | null = null;
  /** Signals of the suspend eventfd since `arm`. */
  #count = 0;
  /** The number of resumes that are to follow. */
  #owed = 0;

  constructor(file: NoticedFile) {
    this.#file = file;
  }

  get armed(): boolean {
    return this.#listening !== null;
  }

  /**
   * Replace the eventfds. Without a suspend sink the user hears nothing, and the machine does not
   * wait for the user.
   */
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
   * No effect where no suspend waits for an acknowledgement.
   *
   * @param count the value of the suspend eventfd's counter, where the user gives it
   * @throws VfioError EAGAIN when the machine has signalled that eventfd again since
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
