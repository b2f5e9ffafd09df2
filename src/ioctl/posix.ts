/**
 * The few numbers of open(2), mmap(2), eventfd(2) and poll(2) that programs over VFIO use. x86-64
 * and arm64 agree on all of them.
 */

export const OpenFlags = { O_RDONLY: 0, O_WRONLY: 1, O_RDWR: 2, O_ACCMODE: 3, O_CLOEXEC: 0o2000000 } as const;

export const Prot = { NONE: 0, READ: 1, WRITE: 2 } as const;

export const MapFlags = { SHARED: 1, PRIVATE: 2, SHARED_VALIDATE: 3, TYPE_MASK: 15, ANONYMOUS: 32 } as const;

export const EfdFlags = { SEMAPHORE: 1, NONBLOCK: 0o4000, CLOEXEC: 0o2000000 } as const;

export const PollEvents = { IN: 1, OUT: 4, ERR: 8, NVAL: 32 } as const;

/** The only fcntl flag there is. */
export const FD_CLOEXEC = 1;
