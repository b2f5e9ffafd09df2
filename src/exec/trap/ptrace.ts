/**
 * ptrace(2) by its requests: what stops a thread, and what lets it go on.
 *
 * @see linux/include/uapi/linux/ptrace.h, linux/kernel/ptrace.c, the manual page ptrace(2)
 */

export const Request = {
  CONT: 7,
  DETACH: 17,
  SYSCALL: 24,
  GETEVENTMSG: 0x4201,
  GETSIGINFO: 0x4202,
  SETSIGINFO: 0x4203,
  GETREGSET: 0x4204,
  SETREGSET: 0x4205,
  SEIZE: 0x4206,
  INTERRUPT: 0x4207,
  LISTEN: 0x4208,
  GETSIGMASK: 0x420a,
  SETSIGMASK: 0x420b,
} as const;

/**
 * Options of SEIZE: stops at system calls have a status of their own, and new threads and children
 * are traced.
 */
export const Option = { TRACESYSGOOD: 1, TRACEFORK: 2, TRACEVFORK: 4, TRACECLONE: 8, TRACEEXEC: 16 } as const;

/** Upper bits of a stop's status. */
export const Event = { NONE: 0, FORK: 1, VFORK: 2, CLONE: 3, EXEC: 4, STOP: 128 } as const;

/** The status of a stop at a system call, with TRACESYSGOOD. */
export const SYSCALL_STOP = 0x85;

/** Sets of registers, by the types of notes in core files: linux/elf.h. */
export const RegisterSet = { PRSTATUS: 1, X86_XSTATE: 0x202 } as const;

export const Signal = { TRAP: 5, BUS: 7, SEGV: 11, STOP: 19, TSTP: 20, TTIN: 21, TTOU: 22 } as const;
/** si_code of faults: asm-generic/siginfo.h. */
export const SignalCode = { SEGV_MAPERR: 1, BUS_ADRERR: 2 } as const;
/** struct siginfo of 64-bit programs: bytes, and the places of its fields. */
export const Siginfo = { BYTES: 128, SIGNO: 0, CODE: 8, ADDRESS: 16 } as const;

/** waitid(2): linux/wait.h. */
export const Wait = { P_ALL: 0, P_PID: 1, STOPPED: 2, EXITED: 4, NOWAIT: 0x0100_0000, NOTHREAD: 0x2000_0000, ALL: 0x4000_0000 } as const;
/** si_code of what waitid reports: values below TRAPPED are ends. */
export const Change = { EXITED: 1, KILLED: 2, DUMPED: 3, TRAPPED: 4, STOPPED: 5 } as const;
