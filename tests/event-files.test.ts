/** Files of events of the commands, as a user writes and reads them. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import type { VfioEvent } from '../src/abi/event.ts';
import { writeEvents } from '../src/api/event-file.ts';
import { readEvents } from '../src/api/recorded-events.ts';
import { EventStream } from '../src/events/stream.ts';
import { VfioUserDevice } from '../src/vfio-user/client.ts';
import { timelineOf } from './kit/perfetto-trace.ts';
import { VfioProcess } from './kit/vfio-process.ts';

const kit = join(import.meta.dirname, 'kit');
const PATIENCE_MS = 120_000;
let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'vfio-ts-'));
});
afterEach(() => rmSync(folder, { recursive: true }));

const at = (name: string) => join(folder, name);

async function eventsIn(path: string): Promise<VfioEvent[]> {
  const events: VfioEvent[] = [];
  for await (const event of readEvents(path)) events.push(event);
  return events;
}

const kindsOf = (events: readonly VfioEvent[]) => new Set(events.map(({ kind }) => kind));

it('vfio run writes the events of devices that the driver opens, without a word in the driver', async () => {
  const driver = at('driver.ts');
  writeFileSync(
    driver,
    `import { open } from 'vfio-ts';
    import { EduDriver } from 'vfio-ts/driver';
    export async function main(address) {
      using dev = await open(address);
      using edu = new EduDriver(dev);
      if ((await edu.factorial(5)) !== 120) throw new Error('wrong');
    }`,
  );
  const ran = await VfioProcess.run('run', '--events', at('a.jsonl.gz'), '--events', `text:${at('b')}`, driver, 'sim:edu');
  expect([ran.status, ran.stderr]).toEqual([0, '']);
  const events = await eventsIn(at('a.jsonl.gz'));
  expect([...kindsOf(events)]).toEqual(expect.arrayContaining(['access', 'interrupt', 'open', 'enable']));
  expect(readFileSync(at('b'), 'utf8').split('\n')).toHaveLength(events.length + 1);
});

it('a driver that ends its process has its events in the file', async () => {
  const driver = at('driver.ts');
  writeFileSync(
    driver,
    `import { open } from 'vfio-ts';
    export async function main(address) { const dev = await open(address); dev.device.region(0).read32(0); process.exit(7); }`,
  );
  const ran = await VfioProcess.run('run', '--events', at('a.jsonl'), '--events-kinds', 'access', driver, 'sim:edu');
  expect(ran.status).toBe(7);
  const events = await eventsIn(at('a.jsonl'));
  expect(events.at(-1)).toMatchObject({ kind: 'access', op: 'read', region: 0, offset: 0 });
  expect([...kindsOf(events)]).toEqual(['access']);
});

it('vfio serve records accesses of a device that has a mediator', async () => {
  const mediator = join(kit, 'narrowing-mediator.ts');
  await using served = await VfioProcess.serve('edu', at('s'), '--mediator', mediator, '--record', at('r'), '--events', at('e.jsonl'));
  using device = VfioUserDevice.connect(at('s'), { timeoutMs: PATIENCE_MS });
  const value = device.region(0).read32(0);
  expect(await served.end()).toBe(0);
  expect([...kindsOf(await eventsIn(at('r')))]).toEqual(['access']);
  const events = await eventsIn(at('e.jsonl'));
  const read = events.find((event) => event.kind === 'access' && event.region === 0);
  expect(read).toMatchObject({ op: 'read', offset: 0, size: 4, value });
  // The message led to the access.
  expect(events.find(({ seq }) => seq === read!.cause)).toMatchObject({ kind: 'message', command: 'REGION_READ', device: read!.device });
});

it('vfio nvme and vfio events work hand in hand', async () => {
  const ran = await VfioProcess.run('nvme', 'id', 'sim:nvme,size=16M', '--json', '--events', at('n.jsonl'), '--events-kinds', 'command');
  expect([ran.status, ran.stderr]).toEqual([0, '']);
  const shown = await VfioProcess.run('events', at('n.jsonl'), '--kinds', 'command');
  expect(Buffer.from(shown.stdout, 'latin1').toString()).toMatch(/Identify .*ok/);
  const piped = await VfioProcess.run('events', at('n.jsonl'), '--as', 'jsonl');
  expect(piped.stdout).toBe(readFileSync(at('n.jsonl'), 'latin1'));
});

it.each([
  [['nvme', 'id', 'sim:nvme', '--json', '--events', '-'], /standard output has a JSON document/],
  [['nvme', 'id', 'sim:nvme', '--data'], /--data .*[\s\S]*--events FILE/],
  [['nvme', 'id', 'sim:nvme', '--events', 'x.jsonl', '--events', './x.jsonl'], /named for two files/],
  [['serve', 'edu', '--events', '/no/such/x.jsonl', '--socket-path', '/no/such/s'], /ENOENT.*\/no\/such\/x.jsonl/],
  [['run', '--events', 'x.pdf', 'driver.ts', 'sim:edu'], /formats?/i],
])('%s says why it does not', async (argv, text) => {
  const ran = await VfioProcess.run(...argv);
  expect(ran.status).not.toBe(0);
  expect(ran.stderr).toMatch(text);
});

it('vfio events gives a slow reader everything to the end', async () => {
  const stream = new EventStream();
  const path = at('long.jsonl');
  {
    using _file = writeEvents(stream, path, { data: true });
    stream.source('a').dma(true, 0, 0, 2 ** 20, 0, new Uint8Array(2 ** 20));
  }
  // Its standard output is a socket, which holds less than the one event.
  const child = new VfioProcess(['events', path, '--as', 'jsonl']);
  expect([await child.ended, child.stderr]).toEqual([0, '']);
  expect(child.stdout).toBe(readFileSync(path, 'utf8'));
});

it('vfio migrate writes the stages of a move, and the servers the states of the device', async () => {
  await using source = await VfioProcess.serve('nvme', at('a.sock'), '--size', '1M', '--events', at('a.jsonl'));
  await using destination = await VfioProcess.serve('nvme', at('b.sock'), '--size', '1M', '--events', at('b.jsonl'));
  using _device = VfioUserDevice.connect(at('a.sock'), { timeoutMs: PATIENCE_MS });
  const move = ['migrate', `unix:${at('a.sock')}`, `unix:${at('b.sock')}`, '--downtime-ms', 'unlimited', '--events', at('m.jsonl')];
  const moved = await VfioProcess.run(...move);
  expect([moved.status, moved.stderr]).toEqual([0, '']);
  const stages = (await eventsIn(at('m.jsonl'))).filter(({ kind }) => kind === 'migration');
  expect(stages).toMatchObject([
    { device: `unix:${at('a.sock')}`, from: 'RUNNING', to: 'PRE_COPY' },
    { from: 'PRE_COPY', to: 'STOP_COPY' },
    { from: 'STOP_COPY', to: 'RUNNING' },
  ]);
  for (const each of [source, destination]) expect(await each.end()).toBe(0);
  for (const name of ['a', 'b']) expect([...kindsOf(await eventsIn(at(`${name}.jsonl`)))]).toContain('migration');
});

it('vfio demo gives a timeline: from a driver’s message to the register, the command, its DMA and the interrupt', async () => {
  const ran = await VfioProcess.run('demo', '--events', at('demo.pftrace'));
  expect([ran.status, ran.stderr]).toEqual([0, '']);
  const { tracks, flows } = timelineOf(readFileSync(at('demo.pftrace')));
  const disk = 'machine/0000:02:00.0';
  expect(tracks).toEqual(expect.arrayContaining([disk, `${disk}/I/O 1`, `${disk}/DMA`, `${disk}/MSI-X 1`, 'machine/0000:03:00.1']));
  const arrows = new Set(flows.map(([from, to]) => `${from.track} to ${to.track}`));
  const edu = 'machine/0000:00:04.0';
  for (const [from, to] of [
    ['messages to the server', 'registers'],
    ['registers', 'commands'],
    ['commands', 'DMA'],
    ['DMA', 'MSI 0'],
  ]) {
    expect(arrows).toContain(`${edu}/${from} to ${edu}/${to}`);
  }
});

it.each([
  ['--events', 'out.foo', "'out.foo' ends as no format of events does. Formats: text (.txt)"],
  ['--events', 'driver.ts', "'driver.ts' ends as no format of events does."],
  ['--events', 'jsonl:', 'FORMAT:FILE names it.'],
])('a file whose name says no format is wrong usage: %s %s', async (option, name, message) => {
  const ran = await VfioProcess.run('run', option, name, 'driver.ts', 'sim:edu');
  expect([ran.status, ran.stdout, ran.stderr]).toEqual([2, '', expect.stringContaining(message)]);
});

it('vfio serve --events -: standard output has the events alone', async () => {
  await using served = await VfioProcess.serve('edu', at('s'), '--events', 'jsonl:-');
  {
    using device = VfioUserDevice.connect(at('s'), { timeoutMs: PATIENCE_MS });
    device.region(0).read32(0);
  }
  expect(await served.end()).toBe(0);
  const lines = served.stdout.trimEnd().split('\n');
  expect(lines.slice(1).map((line) => JSON.parse(line).kind)).toContain('message');
  expect(served.stderr).toContain('cloud-hypervisor');
});
