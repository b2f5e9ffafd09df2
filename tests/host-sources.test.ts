/**
 * `vfio show`, `explain`, `config` and `explain-write` of a computer, from a copy of its files or a
 * recording.
 */
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { hostDocuments } from '../src/api/host-schemas.ts';
import { main } from '../src/cli/main.ts';
import { configBytes } from './kit/host-trees.ts';
import { recordingTerminal } from './kit/recording-terminal.ts';

const folder = mkdtempSync(join(tmpdir(), 'vfio-ts-host-'));
afterAll(() => rmSync(folder, { recursive: true }));

/** A computer with a network card on its root bus, as a copy of its files. */
const root = join(folder, 'computer');
const device = 'sys/devices/pci0000:00/0000:00:03.0';
const config = configBytes(256, (view) => {
  view.setUint32(0, 0x10d3_8086, true);
  view.setUint16(4, 0x0006, true);
});
const files: Readonly<Record<string, string | Uint8Array>> = {
  [`${device}/vendor`]: '0x8086\n',
  [`${device}/device`]: '0x10d3\n',
  [`${device}/class`]: '0x020000\n',
  [`${device}/config`]: config,
  'sys/kernel/iommu_groups/4/type': 'DMA\n',
  'proc/sys/kernel/osrelease': '6.12.48\n',
};
const links: Readonly<Record<string, string>> = {
  'sys/bus/pci/devices/0000:00:03.0': '../../../devices/pci0000:00/0000:00:03.0',
  [`${device}/driver`]: '../../../bus/pci/drivers/e1000e',
  [`${device}/iommu_group`]: '../../../kernel/iommu_groups/4',
};
for (const [path, content] of Object.entries(files)) {
  mkdirSync(dirname(join(root, path)), { recursive: true });
  writeFileSync(join(root, path), content);
}
for (const [path, target] of Object.entries(links)) {
  mkdirSync(dirname(join(root, path)), { recursive: true });
  symlinkSync(target, join(root, path));
}
const archive = join(folder, 'computer.tar.gz');
execFileSync('tar', ['-czf', archive, '-C', folder, 'computer']);
const text = join(folder, 'report.txt');
writeFileSync(
  text,
  '00:03.0 Ethernet controller [0200]: Intel Corporation 82574L [8086:10d3]\n\tIOMMU group: 4\n\tKernel driver in use: e1000e\n',
);

async function vfio(...argv: string[]) {
  const terminal = recordingTerminal();
  const status = await main(argv, terminal);
  return { status, out: terminal.stdout.join('\n'), err: terminal.stderr.join('\n') };
}

describe('vfio show', () => {
  it.each([
    ['--sysfs', ['--sysfs', root]],
    ['a folder', [root]],
    ['an archive', [archive]],
    ['a text of lspci', [text]],
  ])('of %s: the device with its driver and recorded group', async (_, argv) => {
    const { status, out } = await vfio('show', ...argv);
    expect(status).toBe(0);
    expect(out).toMatch(/0000:00:03\.0 +8086:10d3 .* e1000e +group 4/);
    expect(out).toContain('fix: vfio bind 0000:00:03.0');
  });

  it('--json: the document of a machine, with the facts of the computer', async () => {
    const document = JSON.parse((await vfio('show', '--json', '--sysfs', root)).out);
    expect(hostDocuments.show.parse(document)).toEqual(document);
    expect(document).toMatchObject({
      schema: 'vfio-ts/show/1',
      functions: [{ bdf: '0000:00:03.0', driver: 'e1000e', group: 4 }],
      host: { source: 'sysfs', kernel: '6.12.48', groupsAreRecorded: true, differences: [] },
    });
  });

  it('--yaml: a machine file with the same groups', async () => {
    const file = join(folder, 'machine.yaml');
    writeFileSync(file, (await vfio('show', '--yaml', archive)).out);
    expect(readFileSync(file, 'utf8')).toContain('# Made by vfio show --yaml of a recording of a computer (sysfs), Linux 6.12.48.');
    const { groups } = JSON.parse((await vfio('show', file, '--json')).out);
    expect(groups).toMatchObject([{ id: 4, functions: ['0000:00:03.0'], viable: false }]);
  });

  it('of this computer, whatever it has', async () => {
    const { status, out, err } = await vfio('show', '--json');
    if (status === 5) expect(err).toContain('this computer has no PCI devices');
    else expect(JSON.parse(out).host.source).toBe('this computer');
  });

  it('two sources are usage of one too many', async () => {
    expect(await vfio('show', text, '--sysfs', root)).toMatchObject({ status: 1, err: expect.stringContaining('two computers') });
  });

  it('a file that is neither a machine nor a recording', async () => {
    const other = join(folder, 'other.txt');
    writeFileSync(other, 'nothing here\n');
    expect(await vfio('show', other)).toMatchObject({ status: 1, err: expect.stringContaining('has no PCI function in it') });
  });
});

describe('vfio explain', () => {
  it('of this computer needs the address alone', async () => {
    const { status, out } = await vfio('explain', '00:03.0', '--sysfs', root);
    expect(status).toBe(3);
    expect(out).toContain('it is bound to e1000e, not to vfio-pci');
    expect(out).toContain('fix: vfio bind 0000:00:03.0');
  });

  it('of a recording', async () => {
    expect((await vfio('explain', archive, '00:03.0')).out).toContain('group 4: not viable');
    const document = JSON.parse((await vfio('explain', archive, '00:03.0', '--json')).out);
    expect(hostDocuments.explain.parse(document)).toEqual(document);
  });

  it('a device that the computer does not have: 5', async () => {
    expect((await vfio('explain', '00:1f.0', '--sysfs', root)).status).toBe(5);
  });
});

describe('vfio config, vfio explain-write', () => {
  it.each([
    ['--sysfs', ['00:03.0', '--sysfs', root]],
    ['--machine with a recording', ['00:03.0', '--machine', archive]],
    ['a recording', [archive]],
    ['a folder, one function selected', [root, '--select', '00:03.0']],
  ])('config with %s', async (_, argv) => {
    const { status, out } = await vfio('config', ...argv, '-n');
    expect(status).toBe(0);
    expect(out).toContain('8086:10d3');
    expect(out).toContain('IOMMU group: 4');
  });

  it('explain-write of a recording', async () => {
    const { status, out } = await vfio('explain-write', '00:03.0', '0x04', '0x0407', '-m', root);
    expect(status).toBe(0);
    expect(out).toContain('write 0x0407 to 0x04');
  });

  it('a recording without registers: the error says how to get them', async () => {
    expect(await vfio('config', '00:03.0', '-m', text)).toMatchObject({
      status: 1,
      err: expect.stringContaining('lspci prints it with -xxxx'),
    });
  });
});
