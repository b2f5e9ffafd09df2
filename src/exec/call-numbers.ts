/**
 * Numbers of system calls, and the name of the processor in seccomp's data.
 *
 * @see linux/arch/x86/entry/syscalls/syscall_64.tbl; include/uapi/asm-generic/unistd.h for arm64;
 *   linux/audit.h
 */

export type CallName =
  | 'read'
  | 'write'
  | 'open'
  | 'creat'
  | 'lseek'
  | 'mmap'
  | 'ioctl'
  | 'pread64'
  | 'pwrite64'
  | 'readv'
  | 'writev'
  | 'preadv'
  | 'pwritev'
  | 'preadv2'
  | 'pwritev2'
  | 'openat'
  | 'openat2'
  | 'fstat'
  | 'newfstatat'
  | 'statx'
  | 'execve'
  | 'execveat';

/** -1: the processor has no such call. */
type Numbers = Readonly<Record<CallName, number>>;

export interface CallNumbers {
  /** AUDIT_ARCH_ of linux/audit.h. */
  readonly architecture: number;
  readonly numbers: Numbers;
}

const x64: CallNumbers = {
  architecture: 0xc000003e,
  numbers: {
    read: 0,
    write: 1,
    open: 2,
    creat: 85,
    lseek: 8,
    mmap: 9,
    ioctl: 16,
    pread64: 17,
    pwrite64: 18,
    readv: 19,
    writev: 20,
    preadv: 295,
    pwritev: 296,
    preadv2: 327,
    pwritev2: 328,
    openat: 257,
    openat2: 437,
    fstat: 5,
    newfstatat: 262,
    statx: 332,
    execve: 59,
    execveat: 322,
  },
};

const arm64: CallNumbers = {
  architecture: 0xc00000b7,
  numbers: {
    read: 63,
    write: 64,
    open: -1,
    creat: -1,
    lseek: 62,
    mmap: 222,
    ioctl: 29,
    pread64: 67,
    pwrite64: 68,
    readv: 65,
    writev: 66,
    preadv: 69,
    pwritev: 70,
    preadv2: 286,
    pwritev2: 287,
    openat: 56,
    openat2: 437,
    fstat: 80,
    newfstatat: 79,
    statx: 291,
    execve: 221,
    execveat: 281,
  },
};

/** By the processor's name in Node (`process.arch`). */
export const callNumbers: Readonly<Record<string, CallNumbers>> = { x64, arm64 };
