/** Tracing threads of other processes: the addon's calls, of native/trace.c. */

/** Results are those of the system calls, or -errno. */
export interface TraceCalls {
  /** A request whose arguments are numbers. */
  ptrace(request: number, tid: number, address: number, data: number): number;
  /** A request whose data is memory; at least 128 bytes. */
  ptraceBytes(request: number, tid: number, address: number, bytes: Uint8Array): number;
  /** PTRACE_GETREGSET and PTRACE_SETREGSET. Bytes that the kernel gave or took. */
  ptraceRegisters(request: number, tid: number, type: number, bytes: Uint8Array): number;
  /**
   * A change of a child or tracee into `into`: pid, code, status. 1: there was one; 0: there was
   * none. Never sleeps.
   *
   * @param spins look again and again, while that pays (native/spin.c)
   */
  waitid(which: number, id: number, options: number, into: Int32Array, spins?: boolean): number;
  /** EAX to EDX into `into`; -EOPNOTSUPP on other processors than x86-64. */
  cpuid(leaf: number, subleaf: number, into: Int32Array): number;
  /**
   * The event loop calls `callback` after changes of children and tracees, until `childUnwatch` of
   * the result, a positive number. Does not keep the event loop alive.
   */
  childWatch(callback: () => void): number;
  childUnwatch(id: number): number;
}
