/**
 * System calls that a thread makes because its tracer wants them, in place of one that the program
 * made: the thread has left the kernel with that call's placeholder for a result, and executes its
 * SYSCALL instruction again with other registers.
 *
 * Signals stay blocked in between: a handler must not see the registers of such a call.
 */
import type { TraceCalls } from '../../sys/trace.ts';
import { RegisterSet, Request, Siginfo } from './ptrace.ts';
import { Gpr, REGISTERS_BYTES, Registers } from './registers.ts';

/** Number and arguments of a system call: integers below 2^53, or negative ones above -2^31. */
export type Call = readonly [number: number, ...args: number[]];

/** The thread's stops, one after the other; see `Tracer`. */
export interface Stops {
  /** The thread goes on to its next stop at a system call, and `taker` has it then. */
  toCall(tid: number, taker: () => void): void;
  /** The thread goes on. */
  cont(tid: number): void;
}

/** Bytes of SYSCALL, and of a set of signals in the kernel. */
const SYSCALL_BYTES = 2;
const SIGSET_BYTES = 8;
const argumentRegisters = [Gpr.RDI, Gpr.RSI, Gpr.RDX, Gpr.R10, Gpr.R8, Gpr.R9] as const;

export class InjectedCalls {
  readonly #sys: TraceCalls;
  readonly #stops: Stops;
  readonly #tid: number;
  /** The program's, as they are put back. */
  readonly #registers = new Registers();
  readonly #scratch = new Registers();
  readonly #mask = new Uint8Array(Siginfo.BYTES);

  constructor(sys: TraceCalls, stops: Stops, tid: number) {
    this.#sys = sys;
    this.#stops = stops;
    this.#tid = tid;
  }

  /**
   * The thread has stopped on its way out of the program's call.
   *
   * @param next the next call, given the result of the one before (NaN at first); null: that was
   *   all
   * @param result the result of the program's call
   */
  begin(next: (result: number) => Call | null, result: () => number): void {
    const read = this.#sys.ptraceRegisters(Request.GETREGSET, this.#tid, RegisterSet.PRSTATUS, this.#registers.bytes);
    if (read !== REGISTERS_BYTES || this.#sys.ptraceBytes(Request.GETSIGMASK, this.#tid, SIGSET_BYTES, this.#mask) < 0) {
      this.#stops.cont(this.#tid);
      return;
    }
    this.#sys.ptraceBytes(Request.SETSIGMASK, this.#tid, SIGSET_BYTES, new Uint8Array(Siginfo.BYTES).fill(0xff));
    this.#step(next, result, Number.NaN);
  }

  #step(next: (result: number) => Call | null, result: () => number, before: number): void {
    const call = next(before);
    if (call === null) {
      this.#finish(result());
      return;
    }
    const registers = this.#scratch;
    registers.bytes.set(this.#registers.bytes);
    const [number, ...args] = call;
    setSigned(registers, Gpr.RAX, number);
    for (const [i, value] of args.entries()) setSigned(registers, argumentRegisters[i]!, value);
    setSigned(registers, Gpr.RIP, registers.number(Gpr.RIP) - SYSCALL_BYTES);
    registers.forgetCall();
    this.#write(registers);
    // Its entry, and its end.
    this.#stops.toCall(this.#tid, () => {
      this.#stops.toCall(this.#tid, () => {
        if (this.#sys.ptraceRegisters(Request.GETREGSET, this.#tid, RegisterSet.PRSTATUS, registers.bytes) !== REGISTERS_BYTES) return;
        this.#step(next, result, signed(registers, Gpr.RAX));
      });
    });
  }

  #finish(result: number): void {
    setSigned(this.#registers, Gpr.RAX, result);
    this.#registers.forgetCall();
    this.#write(this.#registers);
    this.#sys.ptraceBytes(Request.SETSIGMASK, this.#tid, SIGSET_BYTES, this.#mask);
    this.#stops.cont(this.#tid);
  }

  #write(registers: Registers): void {
    this.#sys.ptraceRegisters(Request.SETREGSET, this.#tid, RegisterSet.PRSTATUS, registers.bytes);
  }
}

function signed(registers: Registers, register: number): number {
  return registers.high(register) === 0xffff_ffff ? registers.low(register) - 2 ** 32 : registers.number(register);
}

function setSigned(registers: Registers, register: number, value: number): void {
  if (value < 0) registers.set(register, value >>> 0, 0xffff_ffff);
  else registers.setNumber(register, value);
}
