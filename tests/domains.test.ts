/**
 * Addresses with a domain, and root buses beside 0000:00, through every door: the command, files,
 * sockets, the ioctl door.
 */
import { copyFileSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { DeviceIoctl } from '../src/abi/vfio.ts';
import { PciDependentDevice, PciHotResetInfo } from '../src/abi/vfio-structs.ts';
import { open } from '../src/api/open.ts';
import { main } from '../src/cli/main.ts';
import { KernelDoor, loadMachine, Process } from '../src/doors/machine.ts';
import { bytesOf, viewOf } from './kit/ioctl-bytes.ts';
import { recordingTerminal } from './kit/recording-terminal.ts';
import { VfioProcess } from './kit/vfio-process.ts';

const example = join(import.meta.dirname, '../examples/machines/domains.yaml');
const folders: string[] = [];

function folder(): string {
  const path = mkdtempSync(join(tmpdir(), 'vfio-ts-'));
  folders.push(path);
  return path;
}

afterEach(() => {
  for (const path of folders.splice(0)) rmSync(path, { recursive: true });
});

async function vfio(...argv: string[]) {
  const terminal = recordingTerminal();
  const status = await main(argv, terminal);
  return { status, out: terminal.stdout.join('\n'), err: terminal.stderr.join('\n') };
}

describe('the command', () => {
  it('S1-01 show draws every root bus, in the order of addresses, with columns that fit', async () => {
    const { status, out } = await vfio('show', example);
    expect(status).toBe(0);
    const tree = out.split('\n').slice(0, 8);
    expect(tree.map((line) => /[0-9a-f:]+\.[0-7]/.exec(line)![0])).toEqual([
      '0000:00:0e.0',
      '0000:60:01.0',
      '0000:61:00.0',
      '0000:61:00.1',
      '0001:00:00.0',
      '0001:01:00.0',
      '10000:e0:06.0',
      '10000:e1:00.0',
    ]);
    expect(new Set(tree.map((line) => line.search(/[0-9a-f]{4}:[0-9a-f]{4} {2}/))).size).toBe(1);
    const { functions } = JSON.parse((await vfio('show', example, '--json')).out) as {
      functions: { bdf: string; parent: string | null }[];
    };
    expect(functions.find((fn) => fn.bdf === '10000:e1:00.0')!.parent).toBe('10000:e0:06.0');
  });

  it('S1-15 explain, config and explain-write take the whole address; without a domain it is 0000', async () => {
    expect((await vfio('explain', example, '0001:01:00.0')).out).toContain('0001:01:00.0 is in group 5; a user can open it');
    expect((await vfio('explain', example, '01:00.0')).status).toBe(5);
    expect((await vfio('config', '10000:e1:00.0', '-m', example)).out).toMatch(/^10000:e1:00\.0 /);
    expect((await vfio('explain-write', '0001:01:00.0', '4', '0x0407', '-m', example)).status).toBe(0);
  });

  it('S1-15 bind --write changes the entry of that root bus, and no other with the same device number', async () => {
    const file = join(folder(), 'machine.yaml');
    const entry = (at: string) => `  - { at: "${at}", id: "1234:5678" }`;
    const text = ['devices:', entry('01.0'), entry('60:01.0'), entry('0001:00:01.0'), ''].join('\n');
    writeFileSync(file, text);
    expect((await vfio('bind', '0001:00:01.0', 'vfio-pci', '-m', file, '--write')).status).toBe(0);
    expect((await vfio('bind', '60:01.0', 'vfio-pci', '-m', file, '--write')).status).toBe(0);
    const bound = (line: string) => line.replace('",', '", driver: vfio-pci,');
    expect(readFileSync(file, 'utf8')).toBe(
      ['devices:', entry('01.0'), bound(entry('60:01.0')), bound(entry('0001:00:01.0')), ''].join('\n'),
    );
  });

  it('S3-15 bind --write of a VF on the next bus number writes nothing: it has no entry', async () => {
    const file = join(folder(), 'machine.yaml');
    copyFileSync(example, file);
    writeFileSync(file, readFileSync(file, 'utf8').replaceAll('firstOffset: 135 }', 'firstOffset: 135 }, numVfs: 128'));
    const before = readFileSync(file, 'utf8');
    const { status, err } = await vfio('bind', '0000:62:00.0', 'vfio-pci', '-m', file, '--write');
    expect([status, err]).toEqual([0, '(0000:62:00.0 is a virtual function: the file has no place for its driver)']);
    expect(readFileSync(file, 'utf8')).toBe(before);
  });
});

describe('doors', () => {
  it('a served machine has a socket with the domain in its name, and a driver reaches the device there', async () => {
    const directory = join(folder(), 'served');
    await using _served = await VfioProcess.serve(example, directory);
    expect(readdirSync(directory)).toContain('0001:01:00.0.sock');
    using device = await open(`unix:${join(directory, '0001:01:00.0.sock')}`, { match: '1234:11e8' });
    expect(device.config.read32(0)).toBe(0x11e8_1234);
    expect((await vfio('show', directory)).out).toMatch(/0001:01:00\.0 .* vfio-pci .* open by /);
  });

  it('S3-01 GET_DEVICE_FD takes the name with its domain, and HOT_RESET_INFO has the segment: its lower 16 bits, as in Linux', () => {
    using machine = loadMachine(example);
    const process = new KernelDoor(machine).process(Process.root());
    for (const [bdf, segment, bus] of [
      ['0001:01:00.0', 1, 1],
      ['10000:e1:00.0', 0, 0xe1],
    ] as const) {
      const { id } = machine.function(bdf).group!;
      machine.bindGroup(id);
      const group = process.open(`/dev/vfio/${id}`);
      const container = process.open('/dev/vfio/vfio');
      expect(process.ioctl(group, 0x3b68, new Uint8Array(new Int32Array([container]).buffer))).toBe(0);
      expect(process.ioctl(container, 0x3b66, 3)).toBe(0);
      const device = process.ioctl(group, 0x3b6a, Buffer.from(`${bdf}\0`));
      expect(device).toBeGreaterThan(0);
      const answer = bytesOf(PciHotResetInfo, { argsz: 20 }, new Uint8Array(8));
      expect(process.ioctl(device, DeviceIoctl.GET_PCI_HOT_RESET_INFO, answer)).toBe(0);
      expect(PciDependentDevice.decode(viewOf(answer), 12)).toEqual({ id, segment, bus, devfn: 0 });
    }
  });
});
