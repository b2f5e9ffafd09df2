/**
 * Devices in threads, as `vfio serve` runs them: a device that computes, fails or ends leaves the
 * others alone, and administration and events are those of one machine.
 */
import { existsSync, mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { VfioEvent } from '../src/abi/event.ts';
import { administerMachine, askMachine } from '../src/api/machine-server.ts';
import { readEvents } from '../src/api/recorded-events.ts';
import { serveMachine } from '../src/api/threads/serve-parts.ts';
import { ManualClock } from '../src/base/clock.ts';
import { VfioUserDevice } from '../src/vfio-user/client.ts';
import { openDescriptorsAndFiles } from './kit/open-descriptors.ts';
import { VfioProcess } from './kit/vfio-process.ts';

const kit = join(import.meta.dirname, 'kit');
let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'vfio-ts-'));
});
afterEach(() => rmSync(folder, { recursive: true }));

const at = (name: string) => join(folder, name);
const EDU_ID = 0x010000ed;
const SELFISH_ID = 0x5e1f;
const Selfish = { UNTIL_FILE: 4, FOR_EVER: 8, HEAP: 12, EXIT: 16 } as const;

/** Behind a port each: an edu device, one that is selfish, and an SR-IOV card. */
function writeMachine(): string {
  writeFileSync(
    at('machine.yaml'),
    `name: neighbours
enableSriov: true
devices:
  - { at: 01.0, kind: root-port, devices: [{ at: 00.0, model: edu, driver: vfio-pci }] }
  - at: 02.0
    kind: root-port
    devices: [{ at: 00.0, model: ${join(kit, 'selfish-model.ts')}, options: { file: ${at('go')} }, driver: vfio-pci }]
  - { at: 03.0, kind: root-port, devices: [{ at: 00.0, model: edu, options: { vfs: 2 }, driver: vfio-pci }] }
  - { at: 04.0, kind: root-port }
`,
  );
  return at('machine.yaml');
}

const socketOf = (bdf: string) => at(`served/${bdf}.sock`);
const read = (path: string) => {
  using device = VfioUserDevice.connect(path);
  return device.region(0).read32(0);
};

/** Wait for `condition`; the event loop runs meanwhile. */
async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise((resolve) => setTimeout(resolve, 5));
}

async function eventsIn(path: string): Promise<VfioEvent[]> {
  const events: VfioEvent[] = [];
  for await (const event of readEvents(path)) events.push(event);
  return events;
}

describe('a selfish neighbour', () => {
  it('computes until a file is there: another device answers before', async () => {
    await using served = await VfioProcess.serve(writeMachine(), at('served'));
    expect(served.stderr).toContain('with 3 threads for its devices');
    using selfish = VfioUserDevice.connect(socketOf('0000:02:00.0'));
    selfish.region(0).write32(Selfish.UNTIL_FILE, 1);
    // In one thread this would wait for the file for ever.
    expect(read(socketOf('0000:01:00.0'))).toBe(EDU_ID);
    writeFileSync(at('go'), '');
    expect(selfish.region(0).read32(0)).toBe(SELFISH_ID);
  });

  it.each([
    ['calls process.exit()', Selfish.EXIT, 'its code called process.exit(7)'],
    ['fills its heap', Selfish.HEAP, 'its heap is full'],
  ])('%s: its clients are disconnected, others go on, and it is there again with no descriptor lost', async (_, register, why) => {
    await using served = await VfioProcess.serve(writeMachine(), at('served'));
    using edu = VfioUserDevice.connect(socketOf('0000:01:00.0'));
    const path = socketOf('0000:02:00.0');
    expect(read(path)).toBe(SELFISH_ID);
    const before = openDescriptorsAndFiles(served.child.pid!);
    {
      using selfish = VfioUserDevice.connect(path);
      selfish.region(0).write32(register, 1);
      await served.says(`0000:02:00.0 has ended: ${why}`);
      expect(() => selfish.region(0).read32(0)).toThrow(expect.objectContaining({ code: 'ENODEV' }));
    }
    expect(edu.region(0).read32(0)).toBe(EDU_ID);
    await until(() => {
      try {
        return read(path) === SELFISH_ID;
      } catch {
        return false;
      }
    });
    await until(() => openDescriptorsAndFiles(served.child.pid!) <= before);
    expect(await served.end()).toBe(0);
    expect(existsSync(at('served'))).toBe(false);
  });

  it('runs in a circle: that is reported, others go on, and SIGTERM ends the server', async () => {
    await using served = await VfioProcess.serve(writeMachine(), at('served'));
    using selfish = VfioUserDevice.connect(socketOf('0000:02:00.0'));
    selfish.region(0).write32(Selfish.FOR_EVER, 1);
    expect(read(socketOf('0000:01:00.0'))).toBe(EDU_ID);
    await served.says('0000:02:00.0 has not answered for 5 s');
    expect((await askMachine(at('served'))).functions.map(({ bdf }) => bdf)).toContain('0000:02:00.0');
    await expect(administerMachine(at('served'), 'reset', { bdf: '02:00.0' })).rejects.toMatchObject({ code: 'ETIMEDOUT' });
    expect((await administerMachine(at('served'), 'plug', { device: 'edu', behind: '00:04.0' })).lines).toEqual([
      '0000:04:00.0 is there, bound to vfio-pci',
    ]);
    expect(read(socketOf('0000:01:00.0'))).toBe(EDU_ID);
    expect(await served.end()).toBe(0);
    expect(existsSync(at('served'))).toBe(false);
  });
});

describe('one machine', () => {
  it('has the same functions, groups and numbers in one thread and in three', async () => {
    const file = writeMachine();
    const documents = [];
    for (const threads of ['1', '31']) {
      await using _served = await VfioProcess.serve(file, at('served'), '--threads', threads);
      await administerMachine(at('served'), 'numvfs', { bdf: '0000:03:00.0', count: '2' });
      await administerMachine(at('served'), 'plug', { device: 'edu', behind: '0000:00:04.0' });
      documents.push(await askMachine(at('served')));
    }
    expect(documents[1]).toEqual(documents[0]);
    expect(documents[0]!.functions.map(({ bdf }) => bdf)).toContain('0000:04:00.0');
  });

  it.each(['x570', 'domains', 'switch'])('%s.yaml is the same in one thread and in several', async (name) => {
    const file = join(import.meta.dirname, `../examples/machines/${name}.yaml`);
    const documents = [];
    for (const threads of [1, 31]) {
      await using _served = await serveMachine(file, at('served'), { threads });
      documents.push(await askMachine(at('served')));
    }
    expect(documents[1]).toEqual(documents[0]);
  });

  it('is administered as a whole: a function in its thread, the machine in all, also beside a socket', async () => {
    await using _served = await VfioProcess.serve(writeMachine(), at('served'));
    const admin = async (command: string, given = {}) => (await administerMachine(at('served'), command, given)).lines;
    expect(await admin('unbind', { bdf: '01:00.0' })).toEqual(['0000:01:00.0 is unbound from vfio-pci']);
    expect(existsSync(socketOf('0000:01:00.0'))).toBe(false);
    expect(await admin('bind', { bdf: '01:00.0', driver: 'vfio-pci' })).toEqual(['0000:01:00.0 is bound to vfio-pci']);
    expect(await admin('suspend')).toEqual(['neighbours sleeps']);
    await expect(admin('reset', { bdf: '03:00.0' })).rejects.toMatchObject({ code: 'EBUSY' });
    expect(await admin('resume')).toEqual(['neighbours is awake']);
    await expect(admin('reset', { bdf: '09:00.0' })).rejects.toMatchObject({
      code: 'ENODEV',
      fix: expect.stringContaining('0000:01:00.0'),
    });
    const beside = await VfioProcess.run('admin', `unix:${socketOf('0000:01:00.0')}`, 'show', '--json');
    expect(beside.stdout).toContain('0000:03:00.0');
    // A device that shares a bridge with none gets a thread, and leaves with its functions.
    expect(await admin('plug', { device: 'edu', at: '09.0' })).toEqual(['0000:00:09.0 is there, bound to vfio-pci']);
    expect(read(socketOf('0000:00:09.0'))).toBe(EDU_ID);
    expect(await admin('unplug', { bdf: '00:09.0' })).toEqual(['0000:00:09.0 is unplugged']);
  });

  it('has one file of events, in the order of the host’s clock, with causes', async () => {
    await using served = await VfioProcess.serve(writeMachine(), at('served'), '--events', at('events.jsonl'));
    for (let i = 0; i < 20; i++) {
      expect(read(socketOf('0000:01:00.0'))).toBe(EDU_ID);
      expect(read(socketOf('0000:02:00.0'))).toBe(SELFISH_ID);
    }
    expect(await served.end()).toBe(0);
    const events = await eventsIn(at('events.jsonl'));
    const reads = events.filter(({ kind, device }) => kind === 'access' && device.startsWith('0000:'));
    expect(new Set(reads.map(({ device }) => device))).toEqual(new Set(['0000:01:00.0', '0000:02:00.0']));
    const times = reads.map(({ hostNs }) => hostNs);
    expect(times).toEqual([...times].sort((a, b) => a - b));
    const bySeq = new Map(events.map((event) => [event.seq, event]));
    for (const { cause, device } of reads.slice(-10)) expect(bySeq.get(cause)).toMatchObject({ kind: 'message', device });
  });

  it('says when no function has a socket, and how one gets it', async () => {
    writeFileSync(at('none.yaml'), 'devices: [{ at: 01.0, kind: root-port, devices: [{ at: 00.0, model: edu }] }]');
    await using served = await VfioProcess.serve(at('none.yaml'), at('served'));
    expect(served.stderr).toContain('no function has a socket yet: vfio-pci drives none.');
    expect(served.stderr).toContain(`vfio admin ${at('served')} bind BDF vfio-pci`);
  });

  it('runs in the calling thread with a clock of the program', async () => {
    await using served = await serveMachine(writeMachine(), at('served'), { clock: new ManualClock() });
    expect([served.threads, served.sockets.length]).toEqual([0, 3]);
  });
});

describe('several devices', () => {
  it('have a socket and a thread each, with a name of its own', async () => {
    await using served = new VfioProcess(['serve', 'edu', 'edu,dmaMs=5', join(kit, 'selfish-model.ts'), '--socket-path', folder]);
    await served.says('listening at 3 sockets, with 3 threads');
    expect(
      readdirSync(folder)
        .filter((name) => name.endsWith('.sock'))
        .sort(),
    ).toEqual(['edu-2.sock', 'edu.sock', 'selfish-model.sock']);
    expect([read(at('edu.sock')), read(at('edu-2.sock')), read(at('selfish-model.sock'))]).toEqual([EDU_ID, EDU_ID, SELFISH_ID]);
    expect(await served.end()).toBe(0);
    expect(readdirSync(folder)).toEqual([]);
  });

  it('have a directory of their own, which the server makes and removes', async () => {
    await using served = new VfioProcess(['serve', 'edu', 'edu', '--socket-path', at('made')]);
    await served.says('listening at 2 sockets');
    expect([statSync(at('made')).mode & 0o777, read(at('made/edu-2.sock'))]).toEqual([0o700, EDU_ID]);
    expect(await served.end()).toBe(0);
    expect(readdirSync(folder)).toEqual([]);
  });

  it.each([
    [['edu', 'machine.yaml'], 'machine.yaml is a machine, which is served alone'],
    [['edu', 'edu', '--size', '1G'], '--size is for devices that come with the package'],
    [['edu', 'edu', '--stdio'], 'several devices have a socket each'],
    [['edu', 'edu', '--threads', '32'], '32'],
    [['edu', 'nosuch'], "there is no model 'nosuch'"],
  ])('%j: %s', async (words, message) => {
    const ran = await VfioProcess.run('serve', ...words, ...(words.includes('--stdio') ? [] : ['--socket-path', folder]));
    expect([ran.status === 0, ran.stderr]).toEqual([false, expect.stringContaining(message)]);
    expect(readdirSync(folder)).toEqual([]);
  });
});
