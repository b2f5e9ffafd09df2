import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { vfio } from '../commands.ts';
import { driversOfComputer, functionsOfComputer, groupsOfComputer } from './sources.ts';
import { suggest } from './suggest.ts';

const desktop = join(import.meta.dirname, '../../../examples/machines/desktop.yaml');
let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'vfio-ts-'));
});
afterEach(() => {
  vi.unstubAllEnvs();
  rmSync(folder, { recursive: true });
});

/** Suggestions for a line whose words have no blanks. */
async function suggested(line: string): Promise<string[]> {
  return (await suggest(vfio, line.split(' '))).map(({ value }) => value);
}

describe('words', () => {
  it.each([
    ['ex', ['exec', 'explain', 'explain-write']],
    ['--', ['--help', '--version']],
    ['nvme s', ['smart']],
    ['help mig', ['migrate']],
    ['completion ', ['bash', 'zsh', 'fish']],
    ['trace --', ['--listen', '--write', '--data', '--quiet', '--help']],
    ['trace -q --l', ['--listen']],
    ['trace -q --q', []],
    ['run driver.ts sim:edu -- --', []],
  ])("'vfio %s' goes on with %j", async (line, expected) => expect(await suggested(line)).toEqual(expected));

  it('an option that repeats is suggested again', async () => {
    expect(await suggested('serve nvme --image a.img --imag')).toEqual(['--image']);
  });
});

describe('values', () => {
  it.each([
    ['nvme bench sim:nvme --rw rand', ['randread', 'randwrite', 'randrw']],
    ['nvme bench sim:nvme --rw=rand', ['--rw=randread', '--rw=randwrite', '--rw=randrw']],
    ['nvme bench sim:nvme --interrupts m', ['msix', 'msi']],
    ['serve nvme --memlock u', ['unlimited']],
    ['serve nv', ['nvme']],
    ['config sim:', ['sim:82576', 'sim:edu', 'sim:bench', 'sim:endpoint-test', 'sim:nvme', 'sim:virtio-rng']],
    [`config 0000:01: --machine=${desktop}`, [`--machine=${desktop}`]],
    [`explain ${desktop} 0000:01:`, ['0000:01:00.0', '0000:01:00.1']],
    [`config --machine ${desktop} 0000:01:`, ['0000:01:00.0', '0000:01:00.1']],
    [`bind 01:00.0 -m ${desktop} snd_h`, ['snd_hda_intel']],
    ['bind 01:00.0 vfio', ['vfio-pci']],
    ['run --events-kinds dma,dma-', ['dma,dma-map', 'dma,dma-unmap', 'dma,dma-refused']],
    ['events run.jsonl --kinds pow', ['power']],
    ['events run.jsonl --as p', ['pcapng', 'perfetto']],
    ['serve edu --events jso', ['jsonl:']],
  ])("'vfio %s' goes on with %j", async (line, expected) => expect(await suggested(line)).toEqual(expected));

  it('the environment names the machine where the command line does not', async () => {
    vi.stubEnv('VFIO_MACHINE', desktop);
    expect(await suggested('config 0000:01:')).toEqual(['0000:01:00.0', '0000:01:00.1']);
  });

  it('a machine whose file names code of its user suggests nothing, and runs nothing', async () => {
    const file = join(folder, 'machine.yaml');
    writeFileSync(join(folder, 'card.ts'), "throw new Error('this code must not run');");
    writeFileSync(file, 'name: m\ndevices:\n  - { at: 01.0, model: ./card.ts }\n');
    expect(await suggested(`explain ${file} 0000:`)).toEqual([]);
  });

  it('files are those that the argument takes, beside directories', async () => {
    for (const name of ['a.yaml', 'b.yml', 'c.bin', '.hidden.yaml']) writeFileSync(join(folder, name), '');
    mkdirSync(join(folder, 'machines'));
    expect(await suggested(`show ${folder}/`)).toEqual(['a.yaml', 'b.yml', 'machines/'].map((name) => join(folder, name)));
    expect(await suggested(`config sim:${folder}/c`)).toEqual([]);
  });

  it('sockets are those of the run-time directory, without the doors of administrators', async () => {
    vi.stubEnv('XDG_RUNTIME_DIR', folder);
    mkdirSync(join(folder, 'vfio-ts'));
    const servers = ['edu.sock', 'edu.sock.manage'].map((name) => createServer().listen(join(folder, 'vfio-ts', name)));
    await Promise.all(servers.map((server) => new Promise((resolve) => server.once('listening', resolve))));
    try {
      expect(await suggested(`trace unix:${folder}/vfio-ts/`)).toEqual([`unix:${folder}/vfio-ts/edu.sock`]);
      expect(await suggested('trace unix:')).toContain(`unix:${folder}/vfio-ts/edu.sock`);
      expect(await suggested('nvme list unix')).toContain(`unix:${folder}/vfio-ts/edu.sock`);
    } finally {
      for (const server of servers) server.close();
    }
  });

  it('functions of this computer have their ids as help', () => {
    mkdirSync(join(folder, '0000:03:00.0'));
    writeFileSync(join(folder, '0000:03:00.0/vendor'), '0x10de\n');
    writeFileSync(join(folder, '0000:03:00.0/device'), '0x1c82\n');
    expect(functionsOfComputer(folder)).toEqual([{ value: '0000:03:00.0', help: '10de:1c82' }]);
  });

  it('drivers and groups of this computer are in order, groups with their devices', () => {
    for (const name of ['10/devices/0000:03:00.0', '9/devices/0000:00:1f.2', '9/devices/0000:00:1f.0'])
      mkdirSync(join(folder, name), { recursive: true });
    expect(groupsOfComputer(folder)).toEqual([
      { value: '9', help: '0000:00:1f.0, 0000:00:1f.2' },
      { value: '10', help: '0000:03:00.0' },
    ]);
    expect(driversOfComputer(folder).map(({ value }) => value)).toEqual(expect.arrayContaining(['none', 'vfio-pci', '10', '9']));
  });
});

describe('vfio admin', () => {
  beforeEach(() => {
    for (const bdf of ['0000:00:04.0', '0000:01:00.0', '0000:01:00.1']) {
      for (const name of [`${bdf}.sock`, `${bdf}.sock.manage`]) writeFileSync(join(folder, name), '');
    }
  });

  it.each([
    ['un', ['unbind', 'unplug']],
    ['unbind 0000:01:', ['0000:01:00.0', '0000:01:00.1']],
    ['unplug 0000:00:04.0 --', ['--wait', '--surprise', '--json', '--help']],
    ['error 0000:01:00.0 non', ['nonfatal']],
    ['power 0000:01:00.0 ', ['D0', 'D3hot']],
    ['bind 0000:01:00.0 vfio', ['vfio-pci']],
    ['plug nv', ['nvme']],
    ['plug nvme --behind 0000:00', ['0000:00:04.0']],
    ['params --w', []],
  ])("'%s' of a machine goes on with %j", async (line, expected) => expect(await suggested(`admin ${folder} ${line}`)).toEqual(expected));

  it('the socket of one function has the same commands and needs no address', async () => {
    expect(await suggested('admin unix:/tmp/edu.sock res')).toEqual(['reset', 'resume']);
    expect(await suggested('admin unix:/tmp/edu.sock reset 0')).toEqual([]);
  });
});
