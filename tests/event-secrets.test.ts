/**
 * Files of events hold no VF token, and without --data no byte that a guest keeps in memory, on its
 * disk or behind a memory BAR: searched for in every format, of server and driver.
 */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { formats } from '../src/events/printers/formats.ts';
import { VfioProcess } from './kit/vfio-process.ts';

const TOKEN = 'c3a1f0e2-97d4-4b6b-8e35-5d1f7a92b6c8';
/** Sixteen bytes that no file has by accident. */
const MARKERS = { disk: 'a7Q!xZ9#kP2@vL5%', bar: 'm4W?yT8&jR1*uN6^', dma: 'h3E+wS7=gD0~cB9|' } as const;

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'vfio-ts-'));
});
afterEach(() => rmSync(folder, { recursive: true }));

const card = `import { bar, device, memory, u32 } from 'vfio-ts';
export default device({ id: '1234:beef', bars: { bar0: bar('4K', { scratch: u32(0) }), bar2: memory('4K') } });`;

const machine = `
enableSriov: true
devices:
  - at: 01.0
    kind: root-port
    devices:
      - { at: 00.0, model: nvme, driver: vfio-pci, numVfs: 1, options: { size: 16M, vfs: 1, vfSize: 4M } }
  - { at: 05.0, model: ./card.ts, driver: vfio-pci }
  - { at: 06.0, model: edu, driver: vfio-pci }
`;

/** Writes the markers everywhere, and reads them back. */
const driver = `import { open } from 'vfio-ts';
import { EduDriver } from 'vfio-ts/driver';
import { NvmeDriver } from 'vfio-ts/nvme';
const [disk, bar, dma] = [process.env.DISK, process.env.BAR, process.env.DMA].map((text) => new TextEncoder().encode(text));
export async function main(address, { args: [vf, card, edu], token }) {
  const physical = await open(address, { token });
  for (const device of [physical, await open(vf, { token })]) {
    await using nvme = await NvmeDriver.start(device);
    const ns = nvme.namespace(1);
    const bytes = new Uint8Array(8 * ns.blockSize);
    for (let at = 0; at < bytes.length; at += 16) bytes.set(disk, at);
    await ns.write(0, bytes);
    if (bytes[17] !== (await ns.read(0, 8))[17]) throw new Error('the disk forgot');
  }
  using memory = await open(card);
  const region = memory.device.region(2);
  for (let at = 0; at < 1024; at += 16) region.write(at, bar);
  const words = new Uint32Array(bar.slice().buffer);
  for (let i = 0; i < 4; i++) region.write32(2048 + 4 * i, words[i]);
  for (let i = 0; i < 4; i++) if (region.read32(2048 + 4 * i) !== words[i]) throw new Error('the BAR forgot');
  const all = new Uint8Array(1024);
  region.read(0, all);
  using copier = new EduDriver(await open(edu));
  using buffer = copier.alloc(4096);
  buffer.bytes.set(dma);
  await copier.copyToDevice(buffer.iova, 16);
  buffer.bytes.fill(0, 0, 16);
  await copier.copyFromDevice(buffer.iova, 16);
  if (buffer.bytes[3] !== dma[3]) throw new Error('edu forgot');
}`;

/** The ways in which a format could have written the bytes. */
function formsOf(bytes: Uint8Array): [string, Buffer][] {
  const forms: [string, Buffer][] = [['bytes', Buffer.from(bytes)]];
  const text = (name: string, value: string) => forms.push([name, Buffer.from(value)]);
  text('hex', Buffer.from(bytes).toString('hex'));
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  for (let at = 0; at < bytes.length; at += 4) {
    for (const little of [true, false]) {
      const value = view.getUint32(at, little);
      text(`hex word ${at}`, value.toString(16));
      text(`decimal word ${at}`, String(value));
      text(`binary word ${at}`, value.toString(2));
      const varint: number[] = [];
      for (let rest = value; rest > 0; rest = Math.floor(rest / 128)) varint.push((rest % 128) | (rest >= 128 ? 0x80 : 0));
      forms.push([`varint word ${at}`, Buffer.from(varint)]);
    }
  }
  return forms;
}

const secrets: [string, Uint8Array][] = [
  ['token', Buffer.from(TOKEN.replaceAll('-', ''), 'hex')],
  ...(['disk', 'bar', 'dma'] as const).map((name): [string, Uint8Array] => [name, Buffer.from(MARKERS[name])]),
];

function found(path: string): string[] {
  const file = readFileSync(path);
  const known = secrets.flatMap(([name, bytes]) =>
    formsOf(new Uint8Array(bytes)).map(([form, each]) => [`${name}: ${form}`, each] as const),
  );
  return [...known, ['token: text', Buffer.from(TOKEN)] as const].filter(([, bytes]) => file.includes(bytes)).map(([name]) => name);
}

/** Files of every format, of server and driver, and the files with data. */
async function record(data: boolean): Promise<string[]> {
  writeFileSync(join(folder, 'card.ts'), card);
  writeFileSync(join(folder, 'machine.yaml'), machine);
  writeFileSync(join(folder, 'driver.ts'), driver);
  writeFileSync(join(folder, 'token'), TOKEN, { mode: 0o600 });
  const filesOf = (side: string) => formats.map(({ extensions }) => join(folder, `${side}.${extensions[0]}`));
  const options = (side: string) => [...filesOf(side).flatMap((path) => ['--events', path]), ...(data ? ['--data'] : [])];
  const sockets = join(folder, 's');
  await using served = await VfioProcess.serve(
    join(folder, 'machine.yaml'),
    sockets,
    ...options('server'),
    '--record',
    join(folder, 'r.jsonl'),
  );
  const [pf, vf, memory, edu] = ['0000:01:00.0', '0000:01:00.1', '0000:00:05.0', '0000:00:06.0'].map(
    (bdf) => `unix:${join(sockets, `${bdf}.sock`)}`,
  );
  const ran = new VfioProcess(
    ['run', ...options('driver'), '--vf-token-file', join(folder, 'token'), join(folder, 'driver.ts'), pf!, vf!, memory!, edu!],
    { env: { DISK: MARKERS.disk, BAR: MARKERS.bar, DMA: MARKERS.dma } },
  );
  expect([await ran.ended, ran.stderr]).toEqual([0, '']);
  expect(await served.end()).toBe(0);
  return [...filesOf('server'), ...filesOf('driver'), join(folder, 'r.jsonl')];
}

it('without --data no file has a token or a byte of memory', async () => {
  const files = await record(false);
  const trouble = files.map((path) => [path, found(path)] as const).filter(([, names]) => names.length > 0);
  expect(trouble).toEqual([]);
  // The device was at work, nevertheless.
  expect(readFileSync(join(folder, 'server.jsonl'), 'utf8')).toMatch(/"kind":"dma","op":"read"/);
});

it('with --data they have the bytes, and still no token', async () => {
  const files = await record(true);
  const names = new Set(files.flatMap(found));
  expect([...names].filter((name) => name.startsWith('token'))).toEqual([]);
  expect([...names]).toEqual(expect.arrayContaining(['dma: hex', 'bar: hex']));
});
