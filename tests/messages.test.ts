/** Typed commands and their answers: small behaviours that cost people time. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { copyFileSync, existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { main } from '../src/cli/main.ts';
import { recordingTerminal } from './kit/recording-terminal.ts';

const examples = join(import.meta.dirname, '../examples/machines');
const desktop = join(examples, 'desktop.yaml');
const command = join(import.meta.dirname, '../bin/vfio.js');
const src = join(import.meta.dirname, '../src');
const folder = mkdtempSync(join(tmpdir(), 'vfio-ts-'));
afterAll(() => rmSync(folder, { recursive: true }));

async function vfio(...argv: string[]) {
  const terminal = recordingTerminal();
  const status = await main(argv, terminal);
  return { status, out: terminal.stdout.join('\n'), err: terminal.stderr.join('\n') };
}

function file(name: string, text: string): string {
  const path = join(folder, name);
  writeFileSync(path, text);
  return path;
}

function start(...argv: string[]): {
  child: ChildProcess;
  said: () => string;
  says: (word: string) => Promise<void>;
  ended: Promise<unknown[]>;
} {
  const child = spawn(process.execPath, [command, ...argv], { stdio: ['ignore', 'pipe', 'pipe'] });
  let text = '';
  const heard = new Set<() => void>();
  for (const stream of [child.stdout!, child.stderr!]) {
    stream.on('data', (data: Buffer) => {
      text += data.toString();
      for (const each of heard) each();
    });
  }
  const ended = once(child, 'close');
  const says = async (word: string): Promise<void> => {
    const come = new Promise<void>((resolve) => {
      const look = () => void (text.includes(word) && resolve());
      heard.add(look);
      look();
    });
    await Promise.race([come, ended]);
    if (!text.includes(word)) throw new Error(`it ended without '${word}': ${text}`);
  };
  return { child, said: () => text, says, ended };
}

/** The commands in a printed text: whole lines behind `fix:` or `or:`, in the order of doing. */
function printedCommands(text: string): string[][] {
  return [...text.matchAll(/^\s*(?:fix|or): (?:[A-Z][^:\n]*: )?vfio ([^\n]*)$/gm)].map((match) => {
    const words = match[1]!.match(/'[^']*'|\S+/g) ?? [];
    return words.map((word) => (word.startsWith("'") ? word.slice(1, -1) : word));
  });
}

describe('fixes that are commands', () => {
  it('work as they are typed: those of every device of every example machine', async () => {
    let tried = 0;
    for (const name of readdirSync(examples).filter((each) => each.endsWith('.yaml'))) {
      // A name that a shell would split.
      const machine = join(folder, `a copy of ${name}`);
      copyFileSync(join(examples, name), machine);
      const { out } = await vfio('show', machine, '--json');
      for (const { bdf } of (JSON.parse(out) as { functions: { bdf: string }[] }).functions) {
        for (const words of printedCommands((await vfio('explain', machine, bdf)).out)) {
          const { status, err } = await vfio(...words);
          expect([status, words.at(-1)], `${words.join(' ')}: ${err}`).toEqual([0, machine]);
          tried++;
        }
      }
    }
    expect(tried).toBeGreaterThan(10);
  });

  it('and those of errors', async () => {
    const socket = join(folder, 'a b.sock');
    const { err, status } = await vfio('config', `unix:${socket}`);
    expect([status, printedCommands(err)]).toEqual([1, [['serve', 'DEVICE', '--socket-path', socket]]]);
    const asked = await vfio('show', folder);
    expect(printedCommands(asked.err.replace(/;.*/, ''))).toEqual([['serve', 'machine.yaml', '--socket-path', folder]]);
  });
});

describe('vfio bind and explain', () => {
  it('bind knows the drivers of the machine, and says how to declare another', async () => {
    const unknown = await vfio('bind', '01:00.0', 'nvidia', '-m', desktop);
    expect([unknown.status, unknown.out]).toEqual([1, '']);
    expect(unknown.err).toMatch(/ENOENT: this machine has no driver 'nvidia'; it has vfio-pci, .*nouveau/);
    expect(unknown.err).toContain('hostDrivers: [{ name: nvidia }]');
    expect((await vfio('bind', '01:00.0', 'nuoveau', '-m', desktop)).err).toContain("Did you mean 'nouveau'?");
    const declared = file('declared.yaml', 'hostDrivers: [{ name: nvidia }]\ndevices: [{ at: 04.0, id: 10de:1c82 }]');
    expect((await vfio('bind', '00:04.0', 'nvidia', '-m', declared)).out).toContain('no driver -> nvidia');
  });

  it('explain of a machine alone says that the device is missing', async () => {
    expect((await vfio('explain', desktop)).err).toContain('the address of a device is missing');
  });

  it('a machine file that cannot be written is named, without a stack', async () => {
    const machine = join(folder, 'ro.yaml');
    copyFileSync(desktop, machine);
    // Root may write everywhere; but no user can write to a directory as to a file.
    const gone = join(folder, 'gone');
    const { status, err } = await vfio('bind', '01:00.0', 'none', '-m', gone, '--write');
    expect([status, err]).toEqual([
      1,
      expect.stringMatching(/^vfio: ENOENT: the machine file .*gone cannot be read: there is no such file/),
    ]);
    expect((await vfio('bind', '01:00.0', 'none', '-m', folder, '--write')).err).toMatch(/^vfio: EISDIR: .*: it is a directory\n {2}fix/);
  });
});

describe('--help', () => {
  it('fits 80 columns, in groups', async () => {
    const { out } = await vfio('--help');
    expect(out).toMatch(/^Devices at work:\n {2}serve .*\n[\s\S]*^Machines:\n {2}show [\s\S]*^Config spaces:\n {2}config/m);
    const names = [...out.matchAll(/^ {2}([a-z-]{3,}) {2,}\S/gm)].map((match) => match[1]!).filter((name) => name !== 'help');
    expect(names).toContain('explain-write');
    for (const words of [[], ...names.map((name) => [name]), ['nvme', 'read'], ['nvme', 'bench']]) {
      const help = await vfio(...words, '--help');
      expect(
        help.out.split('\n').filter((line) => line.length > 80),
        words.join(' '),
      ).toEqual([]);
    }
  });
});

describe('vfio serve', () => {
  it('makes no directory for a socket outside of the run-time directory', async () => {
    const path = join(folder, 'nowhere', 'x.sock');
    const { status, err } = await vfio('serve', 'edu', '--socket-path', path);
    expect([status, err]).toEqual([1, expect.stringContaining(`there is no directory ${folder}/nowhere`)]);
    const machine = await vfio('serve', join(examples, 'hello.yaml'), '--socket-path', join(folder, 'nowhere', 'deep'));
    expect([machine.status, existsSync(join(folder, 'nowhere'))]).toEqual([1, false]);
  });

  it('gives options to a device in a file, and takes the directory of a machine along when it ends', async () => {
    const device = file(
      'uart.ts',
      `import { device } from '${src}/models/kit/device.ts';\nexport default ({ name = '' }) => device({ id: '1234:0001', name });`,
    );
    const wrong = await vfio('serve', `${device},baud=1`, '--socket-path', join(folder, 'u.sock'));
    expect(wrong.err).toContain("has no option 'baud'");
    const machine = file('m.yaml', 'devices: [{ at: 04.0, model: ./uart.ts, options: { name: mine }, driver: vfio-pci }]');
    const directory = join(folder, 'served');
    const served = start('serve', machine, '--socket-path', directory);
    await served.says('listening at');
    expect([served.said().includes('mine'), statSync(directory).mode & 0o777]).toEqual([true, 0o700]);
    served.child.kill('SIGTERM');
    expect((await served.ended)[0]).toBe(0);
    expect(existsSync(directory)).toBe(false);
  });
});

describe('vfio run', () => {
  const driver = (name: string, body: string) =>
    file(name, `import { open } from 'vfio-ts';\nexport async function main(address, { args, signal }) {\n${body}\n}`);

  it('Ctrl-C aborts the signal; waits on the device end, and blocks run to their ends', async () => {
    const waits = driver(
      'waits.ts',
      `  using dev = await open(address);
  using irq = dev.msi.enable(1);
  try {
    console.log('waiting', args.join());
    await irq.next();
  } catch (error) {
    console.log(String(error), signal.aborted);
    throw error;
  } finally {
    console.log('finally');
  }`,
    );
    const run = start('run', waits, 'sim:edu', 'a', 'b');
    await run.says('waiting a,b');
    run.child.kill('SIGINT');
    expect([(await run.ended)[0], run.said()]).toEqual([130, 'waiting a,b\nEINTR: 0000:00:04.0: the driver has to end true\nfinally\n']);
  });

  it('a second Ctrl-C ends a driver that does not listen', async () => {
    const deaf = driver(
      'deaf.ts',
      "  signal.addEventListener('abort', () => console.log('aborted'));\n  console.log('deaf');\n  await new Promise((r) => setTimeout(r, 1e9));",
    );
    const run = start('run', deaf, 'sim:edu');
    await run.says('deaf');
    run.child.kill('SIGINT');
    await run.says('aborted');
    run.child.kill('SIGINT');
    expect((await run.ended)[1]).toBe('SIGINT');
  });

  it('a module, or a main, that never settles is named', async () => {
    const never = file('never.ts', 'await new Promise(() => {});\nexport const main = () => {};');
    const loads = start('run', never, 'sim:edu');
    expect([(await loads.ended)[0], loads.said()]).toEqual([1, expect.stringContaining(`${never} never finished loading`)]);
    const served = start('serve', never, '--socket-path', join(folder, 'n.sock'));
    expect([(await served.ended)[0], served.said()]).toEqual([1, expect.stringContaining(`${never} never finished loading`)]);
    const hangs = driver('hangs.ts', '  await new Promise(() => {});');
    const run = start('run', hangs, 'sim:edu');
    expect([(await run.ended)[0], run.said()]).toEqual([1, expect.stringContaining(`main of ${hangs} never ends`)]);
  });

  it('a server that dies during an access is a device that is gone: ENODEV, status 5', async () => {
    const path = join(folder, 'dies.sock');
    const dies = file(
      'dies.ts',
      `import { bar, device, u32 } from 'vfio-ts';
export default device({ id: '1234:0001', bars: { bar0: bar('4K', { die: u32(0) }) }, on: { 'bar0.die': () => process.kill(process.pid, 'SIGKILL') } });`,
    );
    const server = start('serve', dies, '--socket-path', path);
    await server.says('listening at');
    const run = start('run', driver('kills.ts', '  using dev = await open(address);\n  dev.bar(0).write32(0, 1);'), `unix:${path}`);
    expect([(await run.ended)[0], run.said()]).toEqual([5, expect.stringMatching(/ENODEV: .*dies\.sock/)]);
    await server.ended;
  });
});

it('this file’s tests leave nothing behind', () => {
  mkdirSync(join(folder, 'empty'));
  expect(readdirSync(folder).filter((name) => name.endsWith('.sock') && name !== 'dies.sock' && name !== 'dies.sock.manage')).toEqual([]);
});
