/**
 * One boot of a guest: QEMU without acceleration, an optional emulated IOMMU, facts on the second
 * serial port, the kernel's log on the first.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import type { CpioEntry } from './cpio.ts';
import { Facts } from './facts.ts';
import type { GuestTools } from './guest-tools.ts';

/** The guest, for code that reads its facts. */
export interface Guest {
  /** A line to its standard input. */
  send(line: string): void;
  /** A command to QEMU's monitor, such as `device_del card`. */
  monitor(command: string): void;
  /** Adds a fact of the host's to the guest's. */
  note(subject: string, key: string, value: string | number): void;
}

export interface BootOptions {
  /**
   * Shell script that the guest's init runs. `disk`: the firmware finds a disk to boot from, and
   * that disk holds everything else.
   */
  readonly scenario: string | 'disk';
  /** Further files of the first root file system. */
  readonly entries?: readonly CpioEntry[];
  readonly processors?: number;
  /** Whether the machine has an IOMMU that the guest's kernel uses. */
  readonly iommu: boolean;
  /**
   * Whether the guest's memory is a memfd that devices get as a descriptor; otherwise they reach it
   * by messages only. Default: true.
   */
  readonly sharedMemory?: boolean;
  /** The guest's memory, in QEMU's form. Default: 256M. */
  readonly memory?: string;
  /** Whether a reset of the machine boots it again; otherwise it ends the run. */
  readonly reboots?: boolean;
  /** Further words for QEMU: devices. */
  readonly qemu?: readonly string[];
  /** Further words for the kernel's command line. */
  readonly kernel?: readonly string[];
  /** Called at each fact as it comes. */
  readonly onFact?: (subject: string, key: string, value: string, guest: Guest) => void;
  /** A guest that takes so long hangs: far more than it takes on any machine. */
  readonly timeoutMs?: number;
}

export interface Boot {
  readonly facts: Facts;
  /** QEMU's own complaints. */
  readonly complaints: string;
  /** The end of the kernel's log: for people, after a failure. */
  readonly log: string;
  readonly milliseconds: number;
}

/**
 * An emulated processor that has to wait for a real one is no fault of the kernel, and a slow timer
 * must not make the kernel panic after ten missing ticks.
 */
const patience = ['no_timer_check', 'nowatchdog', 'rcupdate.rcu_cpu_stall_suppress=1'];

/** Characters. QEMU says a line at each access to a device whose server is gone. */
const COMPLAINTS_MAX = 20_000;

/** Running guests and their folders: the end of this program ends them first. */
const running = new Map<ChildProcess, string>();

/** Ends every guest that is still running. */
export function endGuests(): void {
  for (const [child, folder] of running) {
    child.kill('SIGKILL');
    rmSync(folder, { recursive: true, force: true });
  }
}

/**
 * Runs a guest to its end.
 *
 * @throws Error with its output when the guest ended before the end of its scenario
 */
export async function boot(tools: GuestTools, options: BootOptions): Promise<Boot> {
  const { scenario, onFact, timeoutMs = 1_800_000 } = options;
  const folder = mkdtempSync(join(tmpdir(), 'vfio-ts-guest-'));
  const started = performance.now();
  try {
    const initrd = join(folder, 'initrd');
    if (scenario !== 'disk') writeFileSync(initrd, tools.initramfs(scenario, options.entries));
    const logFile = join(folder, 'log');
    const monitor = join(folder, 'monitor');
    const command = tools.qemuCommand(qemuArguments(options, { kernel: tools.kernel, initrd, logFile, monitor }));
    const child = spawn(command.file, command.args, { env: command.env, stdio: ['pipe', 'pipe', 'pipe'] });
    running.set(child, folder);
    const facts = new Facts();
    let complaints = '';
    let isLate = false;
    let lastFact = 'none';
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      complaints = (complaints + text).slice(-COMPLAINTS_MAX);
    });
    child.stdin.on('error', () => {}); // QEMU is gone: its exit reports it
    const guest: Guest = {
      send: (line) => void child.stdin.write(`${line}\n`),
      monitor: (command) =>
        connect(monitor)
          .on('error', () => {})
          .resume()
          .end(`${command}\n`),
      note: (subject, key, value) => void facts.add(`@ ${subject} ${key} ${value}`),
    };
    createInterface({ input: child.stdout }).on('line', (line) => {
      const fact = facts.add(line.replaceAll('\r', ''));
      if (fact === null) return;
      lastFact = `${fact.subject} ${fact.key} ${fact.value}`;
      if (fact.subject === 'guest' && fact.key === 'exit') guest.send('heard');
      onFact?.(fact.subject, fact.key, fact.value, guest);
    });
    const timer = setTimeout(() => {
      isLate = true;
      child.kill('SIGKILL');
    }, timeoutMs);
    const status = await new Promise<number | string>((resolve, reject) => {
      child.on('error', reject);
      child.on('close', (code, signal) => resolve(code ?? signal ?? 'no status'));
    }).finally(() => {
      clearTimeout(timer);
      running.delete(child);
    });
    const log = readLog(logFile);
    const result = { facts, complaints: complaints.trim(), log, milliseconds: performance.now() - started };
    if (!facts.has('guest', 'exit')) {
      const why = `${isLate ? `nothing after ${timeoutMs} ms` : `QEMU ended with ${status}`}; the last fact: ${lastFact}`;
      const seen = [result.complaints, facts.words, log]
        .map(lastLines)
        .filter((text) => text !== '')
        .join('\n');
      throw new Error(`the guest gave no verdict: ${why}\n${seen}`);
    }
    return result;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

interface Files {
  readonly kernel: string;
  readonly initrd: string;
  readonly logFile: string;
  /** The socket of QEMU's monitor. */
  readonly monitor: string;
}

/**
 * The IOMMU hears of every mapping that the guest makes (caching-mode): without that, a vfio-user
 * device would miss them.
 */
function qemuArguments(options: BootOptions, { kernel, initrd, logFile, monitor }: Files): string[] {
  const { iommu, memory = '256M', sharedMemory = true, reboots = false, processors = 1 } = options;
  const words = [
    'console=ttyS0 quiet panic=-1 random.trust_cpu=on',
    ...patience,
    ...(iommu ? ['intel_iommu=on'] : []),
    ...(options.kernel ?? []),
  ];
  return [
    ...`-nodefaults -no-user-config -display none -accel tcg -cpu max -m ${memory} -smp ${processors}`.split(' '),
    ...(reboots ? [] : ['-no-reboot']),
    ...['-machine', `q35,kernel-irqchip=split${sharedMemory ? ',memory-backend=memory' : ''}`],
    ...(sharedMemory ? ['-object', `memory-backend-memfd,id=memory,size=${memory},share=on`] : []),
    ...(iommu ? ['-device', 'intel-iommu,intremap=on,caching-mode=on'] : []),
    ...(options.scenario === 'disk' ? [] : ['-kernel', kernel, '-initrd', initrd, '-append', words.join(' ')]),
    ...['-monitor', `unix:${monitor},server=on,wait=off`],
    ...['-serial', `file:${logFile}`, '-chardev', 'stdio,id=facts,signal=off', '-serial', 'chardev:facts'],
    ...(options.qemu ?? []),
  ];
}

function lastLines(text: string): string {
  return text.trim().split('\n').slice(-20).join('\n');
}

function readLog(file: string): string {
  try {
    return readFileSync(file, 'utf8').replaceAll('\r', '');
  } catch {
    return '';
  }
}
