/**
 * The thread that is stopped now: its registers, and the instruction that it stopped at.
 *
 * One object serves all threads, since the tracer looks at one stop at a time. Nothing is allocated
 * for an access.
 */
import { BusError } from '../../abi/bus-error.ts';
import { VfioError } from '../../base/errno.ts';
import { commandOf } from '../../sys/task-status.ts';
import type { TraceCalls } from '../../sys/trace.ts';
import { NoMemory } from './device-memory.ts';
import { Emulator } from './emulator.ts';
import { RegisterSet, Request, Siginfo, Signal, SignalCode } from './ptrace.ts';
import { Gpr, REGISTERS_BYTES, Registers } from './registers.ts';
import type { TracedProcess } from './traced-process.ts';
import { VectorRegisters, vectorLayout } from './vector-registers.ts';
import { INSTRUCTION_MAX, Instruction } from './x86-decoder.ts';

/** Different instructions that get a line of their own. */
const REPORTS_MAX = 100;

export class StoppedThread {
  readonly registers = new Registers();
  readonly #sys: TraceCalls;
  readonly #report: (line: string) => void;
  readonly #vectors: VectorRegisters;
  readonly #emulator: Emulator;
  readonly #instruction = new Instruction();
  readonly #code = new Uint8Array(INSTRUCTION_MAX);
  readonly #siginfo = new Uint8Array(Siginfo.BYTES);
  readonly #info = new DataView(this.#siginfo.buffer);
  readonly #reported = new Set<string>();
  #tid = 0;
  #vectorBytes = 0;
  #vectorsChanged = false;

  constructor(sys: TraceCalls, report: (line: string) => void) {
    this.#sys = sys;
    this.#report = report;
    const leaf = new Int32Array(4);
    this.#vectors = new VectorRegisters(vectorLayout((number, subleaf) => (sys.cpuid(number, subleaf, leaf) < 0 ? null : leaf)));
    this.#emulator = new Emulator(this.registers, {
      read: () => this.#readVectors(),
      changed: () => {
        this.#vectorsChanged = true;
      },
    });
  }

  /**
   * A SIGBUS is about to be delivered: carry out the instruction on the device, or deliver the
   * signal.
   *
   * @returns true: the thread goes on, behind the instruction
   */
  fault(tid: number, { pid, memory }: TracedProcess): boolean {
    const sys = this.#sys;
    this.#tid = tid;
    if (sys.ptraceBytes(Request.GETSIGINFO, tid, 0, this.#siginfo) < 0) return false;
    const address = this.#info.getUint32(Siginfo.ADDRESS, true) + this.#info.getUint32(Siginfo.ADDRESS + 4, true) * 2 ** 32;
    if (this.#info.getInt32(Siginfo.CODE, true) !== SignalCode.BUS_ADRERR || !memory.has(address)) return this.#deliver(Signal.BUS);
    const { registers } = this;
    const got = this.#readRegisters();
    // Killed meanwhile.
    if (got < 0) return false;
    if (got !== REGISTERS_BYTES) {
      this.#say(pid, '32-bit code, which is not emulated');
      return this.#deliver(Signal.BUS);
    }
    const read = sys.processRead(pid, registers.number(Gpr.RIP), this.#code, 0, INSTRUCTION_MAX);
    if (read <= 0) return this.#deliver(Signal.BUS);
    if (!this.#instruction.decode(this.#code, read)) {
      const bytes = Buffer.from(this.#code.subarray(0, read)).toString('hex');
      this.#say(pid, `an instruction that is not emulated (bytes ${bytes})`);
      return this.#deliver(Signal.BUS);
    }
    this.#vectorsChanged = false;
    memory.begin();
    try {
      this.#emulator.run(this.#instruction, memory);
    } catch (error) {
      return this.#failed(pid, memory.address, error);
    }
    this.#writeRegisters();
    const held = memory.heldAnswer();
    if (held === null) return sys.ptrace(Request.CONT, tid, 0, 0) === 0;
    void held.then(() => sys.ptrace(Request.CONT, tid, 0, 0));
    return false;
  }

  #readRegisters(): number {
    return this.#sys.ptraceRegisters(Request.GETREGSET, this.#tid, RegisterSet.PRSTATUS, this.registers.bytes);
  }

  #writeRegisters(): void {
    this.#sys.ptraceRegisters(Request.SETREGSET, this.#tid, RegisterSet.PRSTATUS, this.registers.bytes);
    if (!this.#vectorsChanged) return;
    const { bytes } = this.#vectors;
    this.#sys.ptraceRegisters(Request.SETREGSET, this.#tid, RegisterSet.X86_XSTATE, bytes.subarray(0, this.#vectorBytes));
  }

  #readVectors(): VectorRegisters {
    this.#vectorBytes = this.#sys.ptraceRegisters(Request.GETREGSET, this.#tid, RegisterSet.X86_XSTATE, this.#vectors.bytes);
    if (this.#vectorBytes < 0) throw new VfioError('ESRCH', `thread ${this.#tid} is gone`);
    return this.#vectors;
  }

  #failed(pid: number, address: number, error: unknown): boolean {
    // Steps of a string that are done stay done.
    this.#writeRegisters();
    if (error instanceof NoMemory) return this.#deliverFault(Signal.SEGV, SignalCode.SEGV_MAPERR, error.address);
    if (!(error instanceof BusError))
      this.#say(pid, `an access that failed: ${error instanceof VfioError ? error.message : String(error)}`);
    return this.#deliverFault(Signal.BUS, SignalCode.BUS_ADRERR, address);
  }

  #deliverFault(signal: number, code: number, address: number): boolean {
    this.#info.setInt32(Siginfo.SIGNO, signal, true);
    this.#info.setInt32(Siginfo.CODE, code, true);
    this.#info.setUint32(Siginfo.ADDRESS, address % 2 ** 32, true);
    this.#info.setUint32(Siginfo.ADDRESS + 4, Math.floor(address / 2 ** 32), true);
    this.#sys.ptraceBytes(Request.SETSIGINFO, this.#tid, 0, this.#siginfo);
    return this.#deliver(signal);
  }

  #deliver(signal: number): boolean {
    this.#sys.ptrace(Request.CONT, this.#tid, 0, signal);
    return false;
  }

  #say(pid: number, what: string): void {
    if (this.#reported.has(what) || this.#reported.size >= REPORTS_MAX) return;
    this.#reported.add(what);
    this.#report(`process ${pid} (${commandOf(pid)}) gets SIGBUS: it accesses mapped registers by ${what}`);
  }
}
