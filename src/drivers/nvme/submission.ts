/**
 * A command with a promise for its end: one object and one promise; the queue's slots are typed
 * arrays.
 */
import type { CommandNames } from './errors.ts';

export interface CommandFields {
  readonly opcode: number;
  readonly nsid?: number;
  readonly cdw10?: number;
  readonly cdw11?: number;
  readonly cdw12?: number;
  readonly cdw13?: number;
  readonly cdw14?: number;
  readonly cdw15?: number;
}

/** One command: its fields, and the promise of its end. */
export class Submission implements CommandNames {
  readonly admin: boolean;
  readonly opcode: number;
  readonly nsid: number;
  /** IOVA and size of the data; size 0: no data. */
  readonly iova: number;
  readonly size: number;
  cdw10 = 0;
  cdw11 = 0;
  cdw12 = 0;
  cdw13 = 0;
  cdw14 = 0;
  cdw15 = 0;
  /** Ticks of the watchdog that the command may take; 0: no limit. */
  limit: number;
  /**
   * A command without an expected end (Asynchronous Event Request). It does not keep the process
   * alive.
   */
  background = false;
  /** The next submission that waits for a slot. */
  next: Submission | null = null;
  /** Dword 0 of the completion. */
  readonly done: Promise<number>;
  /** Ends the command well; the queue calls it with dword 0 of the completion. */
  resolve!: (result: number) => void;
  /** Ends the command with an error; the queue calls it. */
  reject!: (error: Error) => void;

  constructor(admin: boolean, opcode: number, nsid: number, iova: number, size: number, limit: number) {
    this.admin = admin;
    this.opcode = opcode;
    this.nsid = nsid;
    this.iova = iova;
    this.size = size;
    this.limit = limit;
    this.done = new Promise((resolve, reject) => {
      this.resolve = resolve;
      this.reject = reject;
    });
  }

  /** A new submission of the same command. */
  copy(): Submission {
    return Submission.of(this.admin, this, this.iova, this.size, this.limit);
  }

  static of(admin: boolean, fields: CommandFields, iova: number, size: number, limit: number): Submission {
    const made = new Submission(admin, fields.opcode, fields.nsid ?? 0, iova, size, limit);
    made.cdw10 = fields.cdw10 ?? 0;
    made.cdw11 = fields.cdw11 ?? 0;
    made.cdw12 = fields.cdw12 ?? 0;
    made.cdw13 = fields.cdw13 ?? 0;
    made.cdw14 = fields.cdw14 ?? 0;
    made.cdw15 = fields.cdw15 ?? 0;
    return made;
  }
}

/** Waiting submissions, in order. */
export class SubmissionList {
  #first: Submission | null = null;
  #last: Submission | null = null;

  get empty(): boolean {
    return this.#first === null;
  }

  add(submission: Submission): void {
    if (this.#last === null) this.#first = submission;
    else this.#last.next = submission;
    this.#last = submission;
  }

  /** Remove the first one. @returns null when there is none */
  take(): Submission | null {
    const first = this.#first;
    if (first === null) return null;
    this.#first = first.next;
    first.next = null;
    if (this.#first === null) this.#last = null;
    return first;
  }
}
