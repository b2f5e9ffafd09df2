/** Asynchronous events and the requests that wait for them (NVMe 1.4, 5.2). */
import { EventType } from '../../abi/nvme.ts';
import { refused, Status } from '../../abi/nvme-status.ts';
import type { Command, Complete } from './command.ts';

/** Requests that may wait at once: AERL + 1. */
export const EVENT_REQUESTS = 8;
/** Events that wait for a request. More are dropped: what happened is in the logs. */
export const PENDING_MAX = 64;

export class AsyncEvents {
  /** Asynchronous Event Configuration (5.21.1.11): SMART warnings in 7:0, notices from bit 8 on. */
  config = 0;
  readonly #complete: Complete;
  readonly #requests: Command[] = [];
  /** As dword 0 of the completion, each once. */
  readonly #pending: number[] = [];
  /** By type: reported, and its log not read since. */
  readonly #masked = new Uint8Array(8);

  constructor(complete: Complete) {
    this.#complete = complete;
  }

  get waitingRequests(): number {
    return this.#requests.length;
  }

  /** Asynchronous Event Request. */
  request(command: Command): void {
    if (this.#requests.length === EVENT_REQUESTS) {
      this.#complete(command, refused(Status.AER_LIMIT_EXCEEDED));
      return;
    }
    this.#requests.push(command);
    this.#deliver();
  }

  /**
   * Report an event.
   * @param log the page with the details; the next event of this type waits until the host reads
   *   the page
   */
  post(type: number, info: number, log: number): void {
    const event = type | (info << 8) | (log << 16);
    if (this.#pending.length === PENDING_MAX || this.#pending.includes(event)) return;
    this.#pending.push(event);
    this.#deliver();
  }

  /** As `post`, for a notice that the host chose to hear of. @param bit  of the configuration */
  notice(info: number, log: number, bit: number): void {
    if ((this.config & bit) !== 0) this.post(EventType.NOTICE, info, log);
  }

  /** The log page of events of `type` was read. */
  clear(type: number): void {
    this.#masked[type] = 0;
    this.#deliver();
  }

  /** Abort: true when `command` was a request that waited; it ends. */
  abort(command: Command): boolean {
    const at = this.#requests.indexOf(command);
    if (at < 0) return false;
    this.#requests.splice(at, 1);
    this.#complete(command, Status.ABORT_REQUESTED);
    return true;
  }

  /**
   * Requests that wait, in order; events that wait, as dword 0 reports them; and for each type 1
   * when the host has not read the log since the last event.
   */
  get state(): { readonly requests: readonly Command[]; readonly pending: readonly number[]; readonly masked: Uint8Array } {
    return { requests: this.#requests, pending: this.#pending, masked: this.#masked };
  }

  set state({ requests, pending, masked }) {
    this.#requests.splice(0, this.#requests.length, ...requests);
    this.#pending.splice(0, this.#pending.length, ...pending);
    this.#masked.set(masked);
  }

  reset(): void {
    this.config = 0;
    this.#requests.length = 0;
    this.#pending.length = 0;
    this.#masked.fill(0);
  }

  #deliver(): void {
    for (let i = 0; i < this.#pending.length && this.#requests.length > 0; ) {
      const event = this.#pending[i]!;
      if (this.#masked[event & 7] !== 0) {
        i++;
        continue;
      }
      this.#masked[event & 7] = 1;
      this.#pending.splice(i, 1);
      this.#complete(this.#requests.shift()!, Status.SUCCESS, event);
    }
  }
}
