/** SR-IOV as a user of the command sees it: docs/sriov.md, step by step. */
import { spawnSync } from 'node:child_process';
import { chmodSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { MachineServer } from '../src/api/machine-server.ts';
import { open } from '../src/api/open.ts';
import { main } from '../src/cli/main.ts';
import { readVfTokenFile } from '../src/cli/vf-token-file.ts';
import { featureBytes } from '../src/device/feature-bytes.ts';
import { loadMachine } from '../src/doors/machine.ts';
import { VfioUserDevice } from '../src/vfio-user/client.ts';
import { recordingTerminal } from './kit/recording-terminal.ts';
import { OTHER_TOKEN, outcome, PF, TOKEN, VF0, VF1 } from './kit/sriov-rig.ts';
import { VfioProcess } from './kit/vfio-process.ts';

const machine = join(import.meta.dirname, '../examples/machines/sriov.yaml');
const VFIO = join(import.meta.dirname, '../bin/vfio.js');
const folders: string[] = [];

function folder(): string {
  const path = mkdtempSync(join(tmpdir(), 'vfio-ts-'));
  folders.push(path);
  return path;
}

/** A file with a token in it, for its owner only. */
function tokenFile(text = `${TOKEN}\n`, mode = 0o600): string {
  const path = join(folder(), 'token');
  writeFileSync(path, text);
  chmodSync(path, mode);
  return path;
}

afterEach(() => {
  for (const path of folders.splice(0)) rmSync(path, { recursive: true });
});

/** Its standard output may arrive after its standard error. */
async function printed(served: VfioProcess, text: string): Promise<void> {
  while (!served.stdout.includes(text)) await new Promise((resolve) => setTimeout(resolve, 5));
}

async function vfio(...argv: string[]) {
  const terminal = recordingTerminal();
  const status = await main(argv, terminal);
  return { status, out: terminal.stdout.join('\n'), err: terminal.stderr.join('\n') };
}

describe('vfio show and explain', () => {
  it('S3-15 draw PFs with their VFs, under any driver', async () => {
    const { status, out } = await vfio('show', machine);
    expect(status).toBe(0);
    expect(out).toMatch(/0000:01:00\.0 .* vfio-pci .* PF, 2 of 4 VFs$/m);
    expect(out).toMatch(/0000:01:00\.2 .* vfio-pci .* VF 1 of 0000:01:00\.0, opens with its token$/m);
    expect(out).toMatch(/0000:02:10\.0 .* igbvf .* VF 0 of 0000:02:00\.0$/m);
  });

  it('S3-15 and tell programs', async () => {
    const { functions } = JSON.parse((await vfio('show', machine, '--json')).out) as { functions: { bdf: string }[] };
    const of = (bdf: string) => functions.find((f) => f.bdf === bdf);
    expect(of(PF)).toMatchObject({ physicalFunction: null, sriov: { totalVfs: 4, numVfs: 2, vfs: [VF0, VF1] }, open: false });
    expect(of(VF1)).toMatchObject({ physicalFunction: PF, vfIndex: 1, sriov: null, driverOverride: 'vfio-pci', tokenNeeded: true });
    expect(of('0000:02:10.0')).toMatchObject({ physicalFunction: '0000:02:00.0', vfIndex: 0, tokenNeeded: false });
  });

  it('S3-15 with a served machine: the users of each function, now', async () => {
    const directory = join(folder(), 'card');
    const nobody = await vfio('show', folder());
    expect([nobody.status, nobody.err]).toEqual([
      1,
      expect.stringMatching(/no machine is served in [\s\S]*vfio serve machine.yaml --socket-path/),
    ]);
    const mediator = join(folder(), 'onlooker.mjs');
    writeFileSync(mediator, "export default { name: 'onlooker', open: () => ({ handle: null }), release() {} };");
    await using served = new VfioProcess(['serve', machine, '--socket-path', directory, '--mediator', mediator]);
    await served.says('listening at');
    const at = (bdf: string) => `unix:${join(directory, `${bdf}.sock`)}`;
    (await open(at(PF), { token: TOKEN }))[Symbol.dispose]();
    const vf = await open(at(VF0), { token: TOKEN });
    try {
      let out: string;
      // The server notices the end of a client a moment later.
      do ({ out } = await vfio('show', directory));
      while (/0000:01:00\.0 .*open by/.test(out));
      const user = `open by process ${process.pid} \\(.*\\)`;
      expect(out).toMatch(/0000:01:00\.0 .* PF, 2 of 4 VFs, 1 in use$/m);
      expect(out).toMatch(new RegExp(`0000:01:00\\.1 .* opens with its token; ${user}; mediated by onlooker$`, 'm'));
      expect(out).toMatch(new RegExp(`^group \\d+: owned by process ${process.pid} \\(.*\\)\n  0000:01:00\\.1`, 'm'));
      // A second machine in the same directory: the first one is shown.
      await using second = new VfioProcess([
        'serve',
        join(import.meta.dirname, '../examples/machines/hello.yaml'),
        '--socket-path',
        directory,
      ]);
      await second.says(`vfio show ${directory} shows that one`);
      await second.says('listening at');
      const socket = await vfio('show', join(directory, `${VF0}.sock`));
      expect([socket.status, socket.err]).toEqual([1, expect.stringContaining(`fix: vfio show ${directory}`)]);
      const json = await vfio('show', directory, '--json');
      expect(JSON.parse(json.out)).toMatchObject({
        functions: expect.arrayContaining([
          expect.objectContaining({
            bdf: VF0,
            open: true,
            openBy: expect.stringContaining(`process ${process.pid} (`),
            mediator: 'onlooker',
          }),
          expect.objectContaining({ bdf: PF, tokenNeeded: true, sriov: { totalVfs: 4, numVfs: 2, inUse: 1, vfs: [VF0, VF1] } }),
        ]),
      });
      expect(out + json.out).not.toMatch(/83d8f4f2|e6bfe0fa/);
    } finally {
      vf[Symbol.dispose]();
    }
    await served.end('SIGTERM');
    expect((await vfio('show', directory)).err).toContain(`no machine is served in ${directory}`);
  });

  it('E-11 vfio explain says whether a token is needed before a client opens the device', async () => {
    const vf = await vfio('explain', machine, VF0);
    expect([vf.status, vf.out]).toEqual([
      0,
      expect.stringMatching(/a user can open it, with a VF token[\s\S]*virtual function of 0000:01:00\.0; opens with/),
    ]);
    expect((await vfio('explain', machine, PF)).out).toContain(`virtual ones: ${VF0}, ${VF1}`);
    const native = await vfio('explain', machine, '02:10.0');
    expect([native.status, native.out]).toEqual([3, expect.stringContaining('needs no token')]);
    const json = JSON.parse((await vfio('explain', machine, VF0, '--json')).out) as object;
    expect(json).toMatchObject({ physicalFunction: PF, virtualFunctions: null, tokenNeeded: true });
  });

  it('C.1 vfio config shows the capability of a PF, and the ids of a VF', async () => {
    expect((await vfio('config', PF, '-m', machine)).out).toMatch(/Total VFs: 4, Number of VFs: 2/);
    for (const view of [[], ['--user']]) expect((await vfio('config', VF0, '-m', machine, ...view)).out).toMatch(/Device 1234:11e8/);
    const tried = await vfio('explain-write', VF0, '0x04', '0x0006', '-m', machine);
    expect([tried.status, tried.out]).toEqual([0, expect.stringContaining('reads back 0x0006')]);
  });

  it('S3-17 vfio bind works on VFs; there is no line in the file for their driver', async () => {
    const copy = join(folder(), 'machine.yaml');
    const text = readFileSync(machine, 'utf8');
    writeFileSync(copy, text);
    const { status, out, err } = await vfio('bind', '02:10.0', '-m', copy, '--write');
    expect([status, out, err]).toEqual([
      0,
      expect.stringMatching(/0000:02:10\.0 .*: igbvf -> vfio-pci/),
      expect.stringContaining('0000:02:10.0 is a virtual function'),
    ]);
    expect(readFileSync(copy, 'utf8')).toBe(text);
  });
});

describe('a machine behind sockets', () => {
  it('S3-18 has a socket for each function under vfio-pci, for as long as it is there', async () => {
    using on = loadMachine(machine);
    const directory = join(folder(), 'card');
    using server = new MachineServer(on, directory, { keepAlive: false });
    const sockets = () => readdirSync(directory).sort();
    expect(server.functions).toEqual([PF, VF0, VF1]);
    expect(sockets()).toEqual([...[PF, VF0, VF1].flatMap((bdf) => [`${bdf}.sock`, `${bdf}.sock.manage`]), 'machine.manage']);
    await on.setNumVfs(PF, 0);
    expect(sockets()).toEqual([`${PF}.sock`, `${PF}.sock.manage`, 'machine.manage']);
    await on.setNumVfs(PF, 1);
    await on.unbind(PF);
    expect(sockets()).toEqual(['machine.manage']);
    on.bind(PF, 'vfio-pci');
    expect(server.functions).toEqual([PF]);
    server[Symbol.dispose]();
    // The server made the directory, and removes it.
    expect(existsSync(directory)).toBe(false);
  });

  it('S3-14 E-11 a tenant is refused without the token and admitted with it; the machine keeps the PF driver’s token', async () => {
    const directory = folder();
    await using served = new VfioProcess(['serve', machine, '--socket-path', directory]);
    await served.says('listening at');
    await printed(served, VF1);
    expect(served.stdout).toMatch(/0000:01:00\.1\.sock +card VF 0, with the VF token/);
    const at = (bdf: string) => `unix:${join(directory, `${bdf}.sock`)}`;
    await expect(open(`unix:${directory}`)).rejects.toMatchObject({
      code: 'EINVAL',
      fix: expect.stringContaining(`unix:${directory}/BDF.sock`),
    });
    await expect(open(at(VF0))).rejects.toMatchObject({ code: 'EACCES', fix: expect.stringContaining('open(address, { token })') });
    (await open(at(PF), { token: TOKEN }))[Symbol.dispose]();
    const vf = await open(at(VF0), { token: TOKEN });
    vf[Symbol.dispose]();
    const token = tokenFile();
    const refused = await vfio('config', at(VF1));
    expect([refused.status, refused.err]).toEqual([4, expect.stringContaining('--vf-token-file')]);
    const config = await vfio('config', at(VF1), '--vf-token-file', token);
    expect([config.status, config.err, config.out]).toEqual([0, '', expect.stringContaining('Device 1234:11e8')]);
    const tried = await vfio('explain-write', at(VF1), '4', '0x0407', '--vf-token-file', token);
    expect(tried.status).toBe(0);
    expect(await served.end('SIGTERM')).toBe(0);
    expect(existsSync(join(directory, `${PF}.sock`))).toBe(false);
    expect(served.stdout + served.stderr).not.toMatch(/83d8f4f2|e6bfe0fa/);
  });

  it('house: sockets with a token of their own admit a tenant who shows none, once the PF driver has set that token', async () => {
    const directory = folder();
    await using served = new VfioProcess(['serve', machine, '--socket-path', directory, '--vf-token-file', tokenFile()]);
    await served.says('listening at');
    const at = (bdf: string) => `unix:${join(directory, `${bdf}.sock`)}`;
    await expect(open(at(VF0))).rejects.toMatchObject({ code: 'EACCES' });
    (await open(at(PF), { token: TOKEN }))[Symbol.dispose]();
    const vf = await open(at(VF0));
    // The driver of the PF shows the token itself, and a wrong one is refused as before.
    await expect(open(at(PF))).rejects.toMatchObject({ code: 'EACCES' });
    await expect(open(at(VF1), { token: OTHER_TOKEN })).rejects.toMatchObject({ code: 'EACCES' });
    vf[Symbol.dispose]();
    expect(await served.end('SIGTERM')).toBe(0);
    expect(served.stdout + served.stderr).not.toMatch(/83d8f4f2|e6bfe0fa/);
    const { status, err } = await vfio('serve', 'edu', '--vf-token-file', tokenFile());
    expect([status, err]).toEqual([1, expect.stringContaining('is for a machine')]);
  });

  it('S3-05 vfio trace shows and records asterisks in place of the token', async () => {
    const directory = folder();
    await using served = new VfioProcess(['serve', machine, '--socket-path', directory]);
    await served.says('listening at');
    const capture = join(directory, 'seen.pcapng');
    const seen = join(directory, 'seen.sock');
    await using traced = new VfioProcess(['trace', `unix:${join(directory, `${PF}.sock`)}`, '--listen', seen, '--write', capture]);
    await traced.says('listening at');
    {
      using device = VfioUserDevice.connect(seen, { token: TOKEN });
      featureBytes(device, { feature: 0, set: true, data: Uint8Array.from(Buffer.from(TOKEN.replaceAll('-', ''), 'hex')) });
    }
    await traced.end('SIGTERM');
    expect(traced.stdout).toContain('vfio_ts_vf_token');
    expect(traced.stdout).toContain('PCI_VF_TOKEN set: a token');
    const kept = readFileSync(capture);
    expect(kept.includes('vfio_ts_vf_token')).toBe(true);
    for (const secret of [TOKEN.slice(0, 8), TOKEN.slice(24), Buffer.from(TOKEN.slice(24), 'hex')])
      expect(kept.includes(secret)).toBe(false);
    expect(traced.stdout + traced.stderr).not.toMatch(/83d8f4f2|e6bfe0fa|83 d8 f4/);
    // And the message went through unchanged.
    (await open(`unix:${join(directory, `${VF0}.sock`)}`, { token: TOKEN }))[Symbol.dispose]();
  });

  it('refuses impossible machines', async () => {
    for (const more of [['--watch'], ['--fd', '0'], ['--stdio']]) {
      const { status, err } = await vfio('serve', machine, ...more);
      expect([status, err.includes('EINVAL')]).toEqual([1, true]);
    }
  });
});

describe('docs/sriov.md', () => {
  /** The typed commands, and the output that the page promises. */
  const document = readFileSync(join(import.meta.dirname, '../docs/sriov.md'), 'utf8');
  const steps = [...document.matchAll(/^```console\n\$ (.*)\n([\s\S]*?)^```$/gm)].map((m) => ({ typed: m[1]!, shown: m[2]!.split('\n') }));

  it('S3-27 can be followed literally', async () => {
    expect(steps.length).toBe(7);
    const directory = folder();
    const here = (text: string) => text.replaceAll('/tmp/card', directory);
    let served: VfioProcess | null = null;
    try {
      for (const { typed, shown } of steps) {
        const command = here(typed);
        let said: string;
        if (command.endsWith(' &')) {
          served = new VfioProcess(command.slice('npx vfio '.length, -2).split(' '));
          await served.says('listening at');
          await printed(served, VF1);
          said = served.stdout;
        } else {
          const words = command.startsWith('npx vfio ')
            ? [process.execPath, [VFIO, ...command.slice(9).split(' ')]]
            : ['sh', ['-c', command]];
          const { stdout, stderr } = spawnSync(words[0] as string, words[1] as string[], {
            cwd: join(import.meta.dirname, '..'),
            encoding: 'utf8',
            env: { ...process.env, NO_COLOR: '1' },
          });
          said = stdout + stderr;
        }
        for (const line of shown) expect(said, typed).toContain(here(line));
      }
    } finally {
      await served?.end('SIGTERM');
    }
  });
});

describe('tokens for commands', () => {
  it('E-11 vfio run hands a driver the token of a file', async () => {
    const driver = join(folder(), 'driver.mjs');
    writeFileSync(driver, 'export const main = (_address, { args, token }) => (token === args[0] ? 7 : 1);');
    expect((await vfio('run', '--vf-token-file', tokenFile(), driver, 'sim:edu', TOKEN)).status).toBe(7);
    expect((await vfio('run', driver, 'sim:edu', TOKEN)).status).toBe(1);
  });

  it('S3-05 a file that others can read gets a warning; a file without a token is EINVAL, and its text is not printed', () => {
    const warnings: string[] = [];
    const read = (path: string) => readVfTokenFile(path, (text) => warnings.push(text));
    expect([read(tokenFile()), warnings]).toEqual([TOKEN, []]);
    expect(read(tokenFile(TOKEN, 0o644))).toBe(TOKEN);
    expect(warnings).toEqual([expect.stringContaining('chmod 600')]);
    for (const text of ['', TOKEN.slice(1), `${TOKEN} ${TOKEN}`, 'x'.repeat(10_000)]) {
      const path = tokenFile(text);
      expect(outcome(() => read(path))).toBe('EINVAL');
      expect(() => read(path)).not.toThrow(/83d8|509f/);
    }
    expect(() => read('/nowhere/token')).toThrow(
      expect.objectContaining({ code: 'ENOENT', fix: expect.stringContaining('> /nowhere/token') }),
    );
    expect(() => read('/tmp')).toThrow(
      expect.objectContaining({ code: 'EINVAL', message: expect.stringContaining('/tmp is a directory') }),
    );
  });

  it('T7 T12 open() of a model takes a token where the model is a PF', async () => {
    (await open('sim:edu,vfs=2', { token: TOKEN }))[Symbol.dispose]();
    await expect(open('sim:edu', { token: TOKEN })).rejects.toMatchObject({ code: 'EINVAL' });
    await expect(open('sim:edu,vfs=2', { token: 'x' })).rejects.toMatchObject({ code: 'EINVAL' });
    await expect(open('sim:edu,vfs=256')).rejects.toMatchObject({ code: 'EINVAL' });
  });
});
