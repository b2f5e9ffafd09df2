/** A process's identity, as far as locked memory and privileges depend on it: read from /proc. */
import { readFileSync } from 'node:fs';
import { checkIndex } from '../base/check.ts';
import { VfioError } from '../base/errno.ts';

/** linux/capability.h: the names, by bit. */
const capabilityNames = [
  'CAP_CHOWN',
  'CAP_DAC_OVERRIDE',
  'CAP_DAC_READ_SEARCH',
  'CAP_FOWNER',
  'CAP_FSETID',
  'CAP_KILL',
  'CAP_SETGID',
  'CAP_SETUID',
  'CAP_SETPCAP',
  'CAP_LINUX_IMMUTABLE',
  'CAP_NET_BIND_SERVICE',
  'CAP_NET_BROADCAST',
  'CAP_NET_ADMIN',
  'CAP_NET_RAW',
  'CAP_IPC_LOCK',
  'CAP_IPC_OWNER',
  'CAP_SYS_MODULE',
  'CAP_SYS_RAWIO',
  'CAP_SYS_CHROOT',
  'CAP_SYS_PTRACE',
  'CAP_SYS_PACCT',
  'CAP_SYS_ADMIN',
  'CAP_SYS_BOOT',
  'CAP_SYS_NICE',
  'CAP_SYS_RESOURCE',
  'CAP_SYS_TIME',
  'CAP_SYS_TTY_CONFIG',
  'CAP_MKNOD',
  'CAP_LEASE',
  'CAP_AUDIT_WRITE',
  'CAP_AUDIT_CONTROL',
  'CAP_SETFCAP',
  'CAP_MAC_OVERRIDE',
  'CAP_MAC_ADMIN',
  'CAP_SYSLOG',
  'CAP_WAKE_ALARM',
  'CAP_BLOCK_SUSPEND',
  'CAP_AUDIT_READ',
  'CAP_PERFMON',
  'CAP_BPF',
  'CAP_CHECKPOINT_RESTORE',
] as const;

export type CapabilityName = (typeof capabilityNames)[number];

export interface ProcessIdentity {
  readonly pid: number;
  /** The name of its command, as the process chose it: any characters. */
  readonly name: string;
  /** Real user id. */
  readonly uid: number;
  /** RLIMIT_MEMLOCK, the soft limit: bytes, Infinity when there is none. */
  readonly memlockLimit: number;
  /** Effective capabilities. */
  readonly capabilities: ReadonlySet<CapabilityName>;
  /**
   * Memory locked or pinned by now (VmLck), bytes; 0 for a process that has no memory of its own.
   */
  readonly lockedBytes: number;
}

/**
 * @param pid in our own pid namespace. Default: our own process.
 * @throws VfioError ESRCH when there is no such process; EINVAL for a number that cannot be a pid
 */
export function readProcess(pid: number = process.pid): ProcessIdentity {
  checkIndex(pid, 0x7fff_ffff, 'the pid');
  let status: string;
  let limits: string;
  try {
    status = readFileSync(`/proc/${pid}/status`, 'latin1');
    limits = readFileSync(`/proc/${pid}/limits`, 'latin1');
  } catch (cause) {
    throw new VfioError('ESRCH', `there is no process ${pid}`, { cause });
  }
  return { pid, ...parseIdentity(status, limits) };
}

/**
 * The fields of /proc/PID/status and /proc/PID/limits (proc(5)). A missing field grants nothing: no
 * capability, no raised limit.
 */
export function parseIdentity(status: string, limits: string): Omit<ProcessIdentity, 'pid'> {
  const field = (name: string): string => new RegExp(`^${name}:\\s*(\\w+)`, 'm').exec(status)?.[1] ?? '0';
  const limit = /^Max locked memory\s+(\w+)/m.exec(limits)?.[1] ?? '0';
  return {
    name: /^Name:\s*(.*)$/m.exec(status)?.[1] ?? '',
    uid: Number(field('Uid')),
    memlockLimit: limit === 'unlimited' ? Number.POSITIVE_INFINITY : Number(limit),
    capabilities: capabilitiesOf(BigInt(`0x${field('CapEff')}`)),
    lockedBytes: Number(field('VmLck')) * 1024,
  };
}

/**
 * Its start time, in clock ticks since the machine started: with its pid, an identity that no other
 * process has.
 *
 * @throws VfioError ESRCH, EINVAL as `readProcess`
 */
export function startTime(pid: number): string {
  checkIndex(pid, 0x7fff_ffff, 'the pid');
  try {
    // proc(5): field 22. Field 2, in parentheses, is the name, which may itself have spaces and
    // parentheses.
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
    return stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19] ?? '';
  } catch (cause) {
    throw new VfioError('ESRCH', `there is no process ${pid}`, { cause });
  }
}

/** The names of a set of capabilities, by bit of linux/capability.h. */
export function capabilitiesOf(bits: bigint): Set<(typeof capabilityNames)[number]> {
  return new Set(capabilityNames.filter((_, bit) => ((bits >> BigInt(bit)) & 1n) === 1n));
}
