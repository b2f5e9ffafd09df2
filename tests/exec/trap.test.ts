/** Registers that programs map, by trapping: real processes, which the test traces. */
import { spawn, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { afterAll, afterEach, describe, expect, it, onTestFinished } from 'vitest';
import { BusError } from '../../src/abi/bus-error.ts';
import type { RegionMapping } from '../../src/abi/device.ts';
import type { MappedFile, MappedFiles } from '../../src/exec/trap/device-memory.ts';
import { Tracer } from '../../src/exec/trap/tracer.ts';
import { tracerOf } from '../../src/sys/task-status.ts';
import { trapForms } from './trap-forms.ts';

const folder = mkdtempSync(join(tmpdir(), 'vfio-ts-trap-'));
afterAll(() => rmSync(folder, { recursive: true }));

function compile(name: string, sources: readonly string[]): string {
  const output = join(folder, name);
  const flags = ['-O1', '-Wall', '-Wextra', '-Werror', '-pthread', '-o', output];
  const compiled = spawnSync(process.env.CC || 'cc', [...flags, ...sources], { encoding: 'utf8' });
  if (compiled.status !== 0) throw new Error(compiled.stderr);
  return output;
}

/** A page of registers that keep what is stored. `silent`: the one that does not answer. */
class Registers implements RegionMapping {
  readonly size = 4096;
  readonly memory = null;
  readonly view = new DataView(new ArrayBuffer(this.size));
  readonly #silent: number;

  constructor(silent = -1) {
    this.#silent = silent;
  }

  #at(offset: number): number {
    if (offset === this.#silent) throw new BusError('the register does not answer');
    return offset;
  }

  read8 = (offset: number) => this.view.getUint8(this.#at(offset));
  read16 = (offset: number) => this.view.getUint16(this.#at(offset), true);
  read32 = (offset: number) => this.view.getUint32(this.#at(offset), true);
  read64 = (offset: number) => this.view.getBigUint64(this.#at(offset), true);
  write8 = (offset: number, value: number) => this.view.setUint8(this.#at(offset), value);
  write16 = (offset: number, value: number) => this.view.setUint16(this.#at(offset), value, true);
  write32 = (offset: number, value: number) => this.view.setUint32(this.#at(offset), value, true);
  write64 = (offset: number, value: bigint) => this.view.setBigUint64(this.#at(offset), value, true);
  [Symbol.dispose](): void {}
}

interface Ended {
  readonly status: number;
  readonly lines: readonly string[];
}

/** A tracer, and what it reported. */
function tracing(): { readonly tracer: Tracer; readonly files: Map<bigint, MappedFile>; readonly reports: string[] } {
  const files = new Map<bigint, MappedFile>();
  const reports: string[] = [];
  const byInode: MappedFiles = { find: ({ inode }) => files.get(inode) ?? null };
  const tracer = new Tracer({ files: byInode, report: (line) => reports.push(line) });
  onTestFinished(() => tracer[Symbol.dispose]());
  return { tracer, files, reports };
}

/**
 * Run a program; once it says which process maps which file, `mapped` is called. The program is no
 * child of this process: libuv's waitpid takes a stop of a tracee for its end.
 */
function run(program: string, argument: string, mapped: (pid: number, file: bigint) => void): Promise<Ended> {
  const child = spawn('sh', ['-c', '"$0" "$1"; echo "ended $?"', program, argument], { stdio: ['pipe', 'pipe', 'inherit'] });
  const lines: string[] = [];
  return new Promise((resolve, reject) => {
    createInterface(child.stdout).on('line', (line) => {
      const [first = '', second = ''] = line.split(' ');
      if (first === 'ended') resolve({ status: Number(second), lines });
      else if (!/^\d+ \d+$/.test(line)) lines.push(line);
      else {
        try {
          mapped(Number(first), BigInt(second));
        } catch (error) {
          reject(error);
        }
        child.stdin.write('\n');
      }
    });
  });
}

const traps = process.arch === 'x64';

describe.runIf(traps)('registers that a process maps', () => {
  const programs = traps ? compile('programs', [join(import.meta.dirname, 'trap-programs.c')]) : '';
  /** Processes that are traced when the program has ended. */
  let left = 0;
  afterEach(() => {
    left = 0;
  });

  async function runTraced(argument: string, registers = new Registers()): Promise<Ended & { readonly reports: readonly string[] }> {
    const { tracer, files, reports } = tracing();
    const ended = await run(programs, argument, (pid, file) => {
      files.set(file, { at: (position) => (position < 4096 ? { mapping: registers, position: 0 } : null), heldAnswer: () => null });
      tracer.seize(pid);
    });
    left = tracer.processes;
    return { ...ended, reports };
  }

  it('every form of instruction does what the processor does on memory', async () => {
    const assembler = join(folder, 'forms.S');
    writeFileSync(assembler, trapForms());
    const forms = compile('forms', [join(import.meta.dirname, 'trap-forms.c'), assembler]);
    const { tracer, files, reports } = tracing();
    const ended = await run(forms, '', (pid, file) => {
      files.set(file, { at: () => ({ mapping: registers, position: 0 }), heldAnswer: () => null });
      tracer.seize(pid);
    });
    expect(ended.lines.slice(0, -1)).toEqual([]);
    expect(ended.lines.at(-1)).toMatch(/^done [2-9]\d\d$/);
    expect(ended.status).toBe(0);
    expect(reports).toEqual([]);
  });
  const registers = new Registers();

  it('threads, those of before too, lose no access', async () => {
    expect(await runTraced('threads')).toEqual({ status: 0, lines: [], reports: [] });
    expect(left).toBe(0);
  });

  it('children have the registers too, and may outlive their parents', async () => {
    expect(await runTraced('forks')).toEqual({ status: 0, lines: [], reports: [] });
  });

  it('signals arrive in order, with their values', async () => {
    expect(await runTraced('signals')).toEqual({ status: 0, lines: [], reports: [] });
  });

  it('an access that the device does not answer is SIGBUS for the program, and other faults are as ever', async () => {
    expect(await runTraced('faults', new Registers(64))).toEqual({ status: 0, lines: [], reports: [] });
  });

  it('an instruction that is not emulated is SIGBUS, and a line has its bytes', async () => {
    const { status, reports } = await runTraced('unknown');
    expect(status).toBe(0);
    expect(reports).toEqual([
      expect.stringMatching(/^process \d+ \(programs\) gets SIGBUS: .* an instruction that is not emulated \(bytes f7/),
    ]);
  });

  it('a traced child can be stopped and continued by its parent', async () => {
    expect(await runTraced('stops')).toEqual({ status: 0, lines: [], reports: [] });
  });

  it('a process that execs is not traced any more', async () => {
    const { tracer, files } = tracing();
    let counted = -1;
    const ended = await run(programs, 'execs', (pid, file) => {
      files.set(file, { at: () => ({ mapping: new Registers(), position: 0 }), heldAnswer: () => null });
      tracer.seize(pid);
      const look = setInterval(() => {
        if (tracer.processes > 0) return;
        clearInterval(look);
        counted = tracerOf(pid);
      }, 1);
    });
    expect(ended.status).toBe(0);
    // Not yet reaped by the shell, or gone: in neither case a tracee.
    expect(counted).toBe(0);
  });

  it('a process that another one traces is refused with the name of the other', async () => {
    const { tracer, files, reports } = tracing();
    let refused: unknown;
    await run(programs, 'traced', (pid, file) => {
      files.set(file, { at: () => null, heldAnswer: () => null });
      try {
        tracer.seize(pid);
      } catch (error) {
        refused = error;
      }
    });
    expect(refused).toMatchObject({ code: 'EPERM', message: expect.stringMatching(/process \d+ \(programs\) traces it already/) });
    expect(tracer.processes).toBe(0);
    expect(reports).toEqual([expect.stringMatching(/traces it already\. .*--bars rw/)]);
  });

  it('a killed process leaves nothing, and the next one is served', async () => {
    const { tracer, files } = tracing();
    for (let i = 0; i < 10; i++) {
      const ended = await run(programs, 'endless', (pid, file) => {
        files.set(file, { at: () => ({ mapping: new Registers(), position: 0 }), heldAnswer: () => null });
        tracer.seize(pid);
        setTimeout(() => process.kill(pid, 'SIGKILL'), i);
      });
      expect(ended.status).toBe(128 + 9);
      expect(tracer.processes).toBe(0);
    }
    expect((await runTraced('threads')).status).toBe(0);
  });

  it('a process that unmaps its registers can be released, and goes on untraced', async () => {
    const { tracer, files } = tracing();
    let pidOf = 0;
    const ended = run(programs, 'unmaps', (pid, file) => {
      pidOf = pid;
      files.set(file, { at: () => ({ mapping: new Registers(), position: 0 }), heldAnswer: () => null });
      tracer.seize(pid);
      const look = setInterval(() => {
        tracer.release();
        if (tracer.processes > 0) return;
        clearInterval(look);
        if (tracerOf(pid) === 0) process.kill(pidOf, 'SIGUSR1');
      }, 1);
    });
    expect((await ended).status).toBe(0);
  });
});
