/** The command as a user meets it: exit status, what is on stdout, what on stderr. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { copyFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { main } from '../src/cli/main.ts';
import { edu } from '../src/models/edu/edu.ts';
import { ConfigSpace } from '../src/pci/config-space.ts';
import { toHex } from '../src/pci/hex-dump.ts';
import { comparable, likewise, lspci, lspciWhy } from './kit/lspci.ts';
import { recordingTerminal } from './kit/recording-terminal.ts';

const desktop = join(import.meta.dirname, '../examples/machines/desktop.yaml');
const folders: string[] = [];

afterEach(() => {
  for (const folder of folders.splice(0)) rmSync(folder, { recursive: true });
});

async function vfio(...argv: string[]) {
  const terminal = recordingTerminal();
  const status = await main(argv, terminal);
  return { status, out: terminal.stdout.join('\n'), err: terminal.stderr.join('\n') };
}

function copyOfDesktop(): string {
  const folder = mkdtempSync(join(tmpdir(), 'vfio-ts-'));
  folders.push(folder);
  const file = join(folder, 'machine.yaml');
  copyFileSync(desktop, file);
  return file;
}

describe('vfio', () => {
  it('--help prints usage, commands and exit statuses', async () => {
    const { status, out } = await vfio('--help');
    expect(status).toBe(0);
    for (const word of [
      'demo',
      'show',
      'explain',
      'bind',
      'config',
      'explain-write',
      'run',
      'serve',
      'nvme',
      'trace',
      'completion',
      'Exit status',
    ])
      expect(out).toContain(word);
  });

  it('exits 2 for a command line that it does not understand, and says where help is', async () => {
    for (const argv of [
      ['bogus'],
      ['show', desktop, 'more'],
      ['show', desktop, '--yaml'],
      ['explain', 'nothing'],
      ['explain', desktop],
      ['explain', desktop, 'foo'],
      ['bind', '1:2:3', '-m', desktop],
      ['bind', '01:00.0', 'pci-stub', '--group', '-m', desktop],
      ['config', 'edu'],
      ['run', 'driver.ts', 'sim'],
      ['explain-write', 'sim:edu', 'x', '1'],
      ['explain-write', 'sim:edu', '4', '-1'],
      ['explain-write', 'sim:edu', '4', '0x'],
      ['explain-write', 'sim:edu', '9007199254740993', '1'],
      ['explain-write', 'sim:edu', '4', '1', '--width', '3'],
      ['completion', 'tcsh'],
    ]) {
      const { status, out, err } = await vfio(...argv);
      expect([status, out], argv.join(' ')).toEqual([2, '']);
      expect(err).toContain('--help');
    }
  });

  it('ends quietly when its reader has seen enough', async () => {
    const child = spawn(process.execPath, [join(import.meta.dirname, '../bin/vfio.js'), 'demo'], { stdio: ['ignore', 'pipe', 'pipe'] });
    const said: string[] = [];
    child.stderr.on('data', (data: Buffer) => said.push(data.toString()));
    child.stdout.once('data', () => child.stdout.destroy());
    const [status] = await once(child, 'close');
    expect([status, said.join('')]).toEqual([0, '']);
  });

  it('exits 1 for a file that is not there, naming it', async () => {
    const { status, err } = await vfio('show', 'nowhere.yaml');
    expect(status).toBe(1);
    expect(err).toContain('nowhere.yaml');
  });
});

describe('vfio demo', () => {
  it('drives devices from other processes without privileges, has attacks refused, lends VFs, moves a disk, and exits 0', async () => {
    const { status, out } = await vfio('demo');
    expect(status).toBe(0);
    // Root runs the driver as a user without rights.
    const uid = process.getuid!() === 0 ? 65534 : process.getuid!();
    expect(out.match(new RegExp(`process \\d+, uid ${uid}, over a socket`, 'g'))).toHaveLength(2);
    expect(out).not.toContain(`process ${process.pid},`);
    expect(out).toContain('10! = 3628800');
    expect(out).toContain('"through the IOMMU and back"');
    expect(out.match(/refused/g)).toHaveLength(4);
    expect(out).toContain('EBUSY');
    expect(out).toContain('EPERM');
    expect(out).toContain('67.1 MB written, flushed, read back and compared');
    expect(out.match(/[\d,]+ IOPS, +[\d.]+ MB\/s, p50 .*, p99 /g)).toHaveLength(3);
    // A tenant: refused without the token, admitted with it; neither message shows the token.
    expect(out).toMatch(/0000:03:00\.1 .*NVMe card VF 0 .*VF 0 of 0000:03:00\.0/);
    expect(out).toMatch(new RegExp(`refused  process \\d+, uid ${uid}, without the token\\n +EACCES: .* needs a VF token`));
    expect(out).toMatch(/let in {3}with the token: its disk \S+V1 has 16\.8 MB/);
    expect(out).not.toMatch(/[0-9a-f]{8}-[0-9a-f]{4}-/);
    // The disk that moved: its figures are of this run.
    expect(out).toMatch(/before +[\d,]+ commands, 32 in flight all the time/);
    expect(out).toMatch(/moved +[\d.]+ MB of disk and state, [\d.]+ [kM]B of memory, in \d+ rounds? while it worked/);
    expect(out).toMatch(/downtime +[\d.]+ ms/);
    expect(out).toMatch(/after +[\d,]+ commands there so far: none lost, none done twice, not a byte wrong/);
    expect(out).not.toContain('\u001b[');
  });
});

describe('vfio show', () => {
  it('draws the tree and the groups', async () => {
    const { status, out } = await vfio('show', desktop);
    expect(status).toBe(0);
    expect(out).toMatch(/0000:01:00\.0 +10de:1c82 +graphics +nouveau +group \d/);
    expect(out).toMatch(/group \d: not viable/);
  });

  it('--json is one document with a schema', async () => {
    const { out } = await vfio('show', desktop, '--json');
    const document = JSON.parse(out);
    expect(document.schema).toBe('vfio-ts/show/1');
    expect(document.functions.find((f: { bdf: string }) => f.bdf === '0000:01:00.0')).toMatchObject({
      driver: 'nouveau',
      parent: '0000:00:01.0',
    });
    const shared = document.groups.find((g: { functions: string[] }) => g.functions.includes('0000:01:00.0'));
    expect(shared).toMatchObject({ functions: ['0000:01:00.0', '0000:01:00.1'], viable: false });
    expect(shared.culprits[0]).toMatchObject({ bdf: '0000:01:00.0', driver: 'nouveau' });
  });
});

describe('vfio explain', () => {
  it('E-01 names who is in the way and the fix, and exits 3', async () => {
    const { status, out } = await vfio('explain', desktop, '01:00.0');
    expect(status).toBe(3);
    expect(out).toContain('0000:01:00.1 (snd_hda_intel) is in its group');
    expect(out).toContain('fix: vfio bind 0000:01:00.1 vfio-pci');
  });

  it('exits 5 for a device that is not there', async () => {
    expect((await vfio('explain', desktop, '7f:00.0')).status).toBe(5);
  });
});

describe('vfio bind', () => {
  it('S1-15 --group plans and does all binds of a group; --write keeps them and the file’s comments', async () => {
    const file = copyOfDesktop();
    const comments = (text: string) => text.split('\n').filter((l) => l.trim().startsWith('#'));
    const before = readFileSync(file, 'utf8');
    const dry = await vfio('bind', '01:00.0', '--group', '--machine', file);
    expect(dry.out).toContain('0000:01:00.1  graphics audio: snd_hda_intel -> vfio-pci');
    expect(readFileSync(file, 'utf8')).toBe(before);
    expect((await vfio('bind', '01:00.0', '--group', '--machine', file, '--write')).status).toBe(0);
    expect(comments(readFileSync(file, 'utf8'))).toEqual(comments(before));
    expect((await vfio('explain', file, '01:00.0')).status).toBe(0);
    expect((await vfio('bind', '01:00.0', '--group', '--machine', file)).out).toContain('nothing to do');
  });

  it('exits with the errno’s status when a bind is refused, and writes nothing', async () => {
    const file = copyOfDesktop();
    const before = readFileSync(file, 'utf8');
    const { status, err } = await vfio('bind', '00:01.0', 'vfio-pci', '--machine', file, '--write');
    expect(status).toBe(1);
    expect(err).toContain('0000:00:01.0');
    expect(readFileSync(file, 'utf8')).toBe(before);
  });
});

describe('vfio config', () => {
  it('prints like lspci', async () => {
    const { status, out } = await vfio('config', 'sim:edu', '--numeric');
    expect(status).toBe(0);
    expect(out).toMatch(/^00:04\.0 00ff: 1234:11e8 \(rev 10\)/);
    expect(out).toContain('MSI: Enable- Count=1/1 Maskable- 64bit+');
  });

  it.skipIf(!comparable).each([
    [1, ['-v']],
    [2, ['-v', '--verbose']],
    [2, ['-vv']],
    [3, ['-vvvv']],
    [3, []],
  ] as const)(`-v and -vv print as lspci does, -vvv is the default (level %i, %j; ${lspciWhy})`, async (level, words) => {
    const folder = mkdtempSync(join(tmpdir(), 'vfio-ts-'));
    folders.push(folder);
    const bytes = new ConfigSpace(edu().declaration).bytes.slice();
    const file = join(folder, 'edu.txt');
    writeFileSync(file, toHex(bytes, '00:04.0'));
    const { status, out } = await vfio('config', file, '--numeric', ...words);
    const [theirs] = lspci([{ bytes, bdf: '00:04.0' }], level, true);
    expect(status).toBe(0);
    const same = likewise(out.trimEnd(), theirs!.replace(/^0000:/, ''));
    expect(same.mine).toBe(same.theirs);
  });

  it.each(['--json', '--hex', '--permissions', '--terse'])('-v with %s is an error of usage that names both', async (option) => {
    const { status, err } = await vfio('config', 'sim:edu', '-v', option);
    expect(status).toBe(2);
    expect(err).toMatch(new RegExp(`'-v, --verbose' cannot be used with option '.*${option}`));
  });

  it('--hex can be read back, and --user shows what VFIO shows', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'vfio-ts-'));
    folders.push(folder);
    const { out } = await vfio('config', 'sim:edu', '--hex');
    const file = join(folder, 'edu.txt');
    (await import('node:fs')).writeFileSync(file, out);
    // A dump holds the registers alone; of a model more is known.
    const known = / \[size=1M\]|\n\tIOMMU group: 0|\n\tKernel driver in use: vfio-pci/g;
    expect((await vfio('config', file, '--numeric')).out).toBe((await vfio('config', 'sim:edu', '--numeric')).out.replace(known, ''));
    expect((await vfio('config', 'sim:edu', '--user', '--hex')).status).toBe(0);
  });

  it('S2-05 S2-44 --permissions prints the tables of the header and of the capabilities that the device has, with reasons', async () => {
    const { status, out } = await vfio('config', 'sim:edu', '--permissions');
    expect(status).toBe(0);
    expect(out).toMatch(/\+04 COMMAND +virt 0400 +write ffff +the user may set it/);
    expect(out).toMatch(/^capability 0x5: /m);
    expect(out).not.toMatch(/^capability 0x10: /m);
  });

  it('--json is one document with a schema', async () => {
    const document = JSON.parse((await vfio('config', '01:00.0', '--machine', desktop, '--json')).out);
    expect(document).toMatchObject({ schema: 'vfio-ts/config/1', bdf: '0000:01:00.0', vendor: { id: 0x10de } });
  });
});

describe('vfio config of dumps', () => {
  const rows = (bytes: Record<number, number>) =>
    Array.from({ length: 4 }, (_, row) => {
      const line = Array.from({ length: 16 }, (_, i) => (bytes[16 * row + i] ?? 0).toString(16).padStart(2, '0'));
      return `${(16 * row).toString(16).padStart(2, '0')}: ${line.join(' ')}`;
    }).join('\n');
  const dump = (text: string): string => {
    const folder = mkdtempSync(join(tmpdir(), 'vfio-ts-'));
    folders.push(folder);
    writeFileSync(join(folder, 'dump.txt'), text);
    return join(folder, 'dump.txt');
  };
  const network = rows({ 0: 0x86, 1: 0x80, 2: 0x34, 3: 0x12, 11: 2 });
  const bridge = rows({ 0: 0x86, 1: 0x80, 2: 0x78, 3: 0x56, 10: 4, 11: 6, 14: 1, 25: 3 });
  const silent = rows(Object.fromEntries(Array.from({ length: 64 }, (_, i) => [i, 0xff])));

  it('prints all functions, with an empty line between them, or the selected one', async () => {
    const file = dump(`00:02.0 x\n${network}\n\n00:03.0 x\n${bridge}\n`);
    expect((await vfio('config', file, '-n', '-t')).out.trim()).toBe('00:02.0 0200: 8086:1234\n00:03.0 0604: 8086:5678');
    expect((await vfio('config', file, '-n')).out).toMatch(/^00:02\.0[\s\S]*\n\n00:03\.0/);
    expect((await vfio('config', file, '-n', '-t', '--select', '00:03.0')).out.trim()).toBe('00:03.0 0604: 8086:5678');
    const document = JSON.parse((await vfio('config', file, '--json')).out);
    expect(document).toMatchObject({ schema: 'vfio-ts/configs/1', functions: [{ bdf: '0000:00:02.0' }, { bdf: '0000:00:03.0' }] });
  });

  it('writes the domain everywhere when one function has another', async () => {
    const file = dump(`0000:00:02.0 x\n${network}\n\n0001:00:02.0 x\n${network}\n`);
    expect((await vfio('config', file, '-n', '-t')).out.trim()).toBe('0000:00:02.0 0200: 8086:1234\n0001:00:02.0 0200: 8086:1234');
  });

  it('exits 5 for a function that does not answer, and says so', async () => {
    const { status, err } = await vfio('config', dump(`00:02.0 x\n${silent}\n`), '-n');
    expect([status, err]).toEqual([5, expect.stringContaining('0000:00:02.0 does not answer')]);
  });

  it('exits 1 for a bridge’s user view, and for a write of several functions', async () => {
    const user = await vfio('config', dump(`00:03.0 x\n${bridge}\n`), '--user');
    expect([user.status, user.err]).toEqual([1, expect.stringContaining('VFIO gives no bridge to a user')]);
    const write = await vfio('explain-write', dump(`00:02.0 x\n${network}\n00:03.0 x\n${network}\n`), '0x04', '0x06');
    expect([write.status, write.err]).toEqual([1, expect.stringContaining('--select')]);
  });
});

describe('vfio explain-write', () => {
  it('S2-44 prints which bits land, which do not, and why', async () => {
    const { status, out } = await vfio('explain-write', 'sim:edu', '0x04', '0x0407');
    expect(status).toBe(0);
    expect(out).toMatch(/COMMAND\[10\] +0 -> 1 +virtual/);
    expect(out).toMatch(/COMMAND\[2:0\] +3 -> 7 +hardware/);
    expect(out).toContain('reads back 0x0407');
  });

  it('exits 1 for an offset outside of config space, and for a value that does not fit', async () => {
    for (const [argv, errno] of [
      [['sim:edu', '0x100', '0x00'], 'EFAULT'],
      [['sim:edu', '4', '0x123456789'], 'EINVAL'],
      [['sim:edu', '4', '256', '--width', '1'], 'EINVAL'],
    ] as const) {
      const { status, err } = await vfio('explain-write', ...argv);
      expect([status, err.includes(errno)], argv.join(' ')).toEqual([1, true]);
    }
  });
});
