/** A group has one user. Over sockets that is a process, with all its connections. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { askMachine } from '../src/api/machine-server.ts';
import { DeviceServer } from '../src/api/serve.ts';
import { VfioError } from '../src/base/errno.ts';
import { edu } from '../src/doors/device.ts';
import { open } from '../src/doors/index.ts';
import { EduDriver } from '../src/drivers/edu/edu-driver.ts';
import type { DriverDevice } from '../src/drivers/kit/driver-device.ts';
import { MachineProcess } from './kit/machine-process.ts';
import { NodeChild } from './kit/node-child.ts';
import { VfioProcess } from './kit/vfio-process.ts';

const GRAPHICS = '0000:02:01.0';
const SOUND = '0000:02:02.0';
const ALONE = '0000:00:04.0';

/** Two functions behind a bridge that forwards DMA of both under one id, and one that is alone. */
const machine = `name: one-group
devices:
  - at: 01.0
    kind: root-port
    devices:
      - at: "00.0"
        kind: pcie-to-pci-bridge
        devices:
          - { at: "01.0", model: edu, driver: vfio-pci }
          - { at: "02.0", model: edu, driver: vfio-pci }
  - { at: "04.0", model: edu, driver: vfio-pci }
`;

const holderScript = `
import { open } from ${JSON.stringify(new URL('../src/doors/index.ts', import.meta.url).href)};
const held = [];
process.stdout.write('ready\\n');
process.stdin.setEncoding('utf8').on('data', async (text) => {
  for (const line of text.trim().split('\\n')) {
    try {
      held.push(await open(line));
      console.log('ok');
    } catch (error) {
      console.log(error.code + ': ' + error.message);
    }
  }
});
`;

const directory = mkdtempSync(join(tmpdir(), 'vfio-ts-user-'));
let served: MachineProcess;
beforeAll(async () => {
  served = await MachineProcess.start(machine);
});
afterAll(async () => {
  await served[Symbol.asyncDispose]();
  rmSync(directory, { recursive: true, force: true });
});

const opened: DriverDevice[] = [];
afterEach(async () => {
  for (const device of opened.splice(0)) device.close();
  // The server has noticed when no group has a user any more.
  while ((await askMachine(served.directory)).groups.some((group) => group.owned)) await new Promise((resolve) => setImmediate(resolve));
});

const address = (bdf: string) => `unix:${served.pathOf(bdf)}`;
const take = async (bdf: string): Promise<DriverDevice> => {
  const device = await open(address(bdf));
  opened.push(device);
  return device;
};
const refusal = async (opening: Promise<DriverDevice>): Promise<VfioError> => {
  try {
    opened.push(await opening);
  } catch (error) {
    if (error instanceof VfioError) return error;
    throw error;
  }
  throw new Error('it was opened');
};

describe('a process with several functions of one group', () => {
  it('S1-01 S1-06 opens both, and each does its DMA in the one container', async () => {
    const [graphics, sound] = [await take(GRAPHICS), await take(SOUND)];
    using one = new EduDriver(graphics, { interrupts: 'poll', timeoutMs: 120_000 });
    using other = new EduDriver(sound, { interrupts: 'poll', timeoutMs: 120_000 });
    using mine = one.alloc(4096);
    using theirs = other.alloc(4096);
    expect(theirs.iova).not.toBe(mine.iova);
    mine.bytes.set([1, 2, 3, 4]);
    // The sound device reads what the graphics driver has mapped: one container, as on Linux.
    await other.copyToDevice(mine.iova, 4);
    await other.copyFromDevice(theirs.iova, 4);
    expect([...theirs.bytes.subarray(0, 4)]).toEqual([1, 2, 3, 4]);
    await one.copyToDevice(mine.iova, 4);
    const { groups, functions } = await askMachine(served.directory);
    expect(groups.find(({ owned }) => owned)).toMatchObject({ ownedBy: `process ${process.pid} (node, uid ${process.getuid!()})` });
    expect(functions.filter(({ open: isOpen }) => isOpen).map(({ bdf }) => bdf)).toEqual([GRAPHICS, SOUND]);
  });

  it('S1-06 keeps the group, and what the other function has mapped, when one is closed', async () => {
    const [graphics, sound] = [await take(GRAPHICS), await take(SOUND)];
    using driver = new EduDriver(sound, { interrupts: 'poll', timeoutMs: 120_000 });
    using buffer = driver.alloc(4096);
    graphics.close();
    await take(GRAPHICS);
    buffer.bytes.set([9]);
    await driver.copyToDevice(buffer.iova, 1);
    await driver.copyFromDevice(buffer.iova + 8n, 1);
    expect(buffer.bytes[8]).toBe(9);
  });

  it('S1-06 memory that both have mapped is there until the second unmaps it; other memory over it is EEXIST', async () => {
    const [graphics, sound] = [await take(GRAPHICS), await take(SOUND)];
    using driver = new EduDriver(sound, { interrupts: 'poll', timeoutMs: 120_000 });
    const { memory } = graphics.dma.alloc(4096, { iova: 0x40_0000n });
    sound.dma.space.map({ iova: 0x40_0000n, memory });
    using other = sound.dma.space.allocate(4096);
    graphics.close();
    const again = await take(GRAPHICS);
    const error = (() => {
      try {
        again.dma.space.map({ iova: 0x40_0000n, memory: other });
      } catch (thrown) {
        return thrown as VfioError;
      }
      return null;
    })();
    expect(error).toMatchObject({ code: 'EEXIST', message: expect.stringContaining('overlaps the mapping at 0x400000') });
    await driver.copyToDevice(0x40_0000n, 1);
    sound.dma.space.unmap(0x40_0000n, 4096n);
    again.dma.space.map({ iova: 0x40_0000n, memory: other });
  });
});

describe('another process', () => {
  let child: NodeChild | null = null;
  const answers = async (index: number, ...say: string[]): Promise<string> => {
    child!.process.stdin!.write(`${say.join('\n')}\n`);
    return child!.line(index);
  };
  const start = async (): Promise<NodeChild> => {
    const file = join(directory, `holder-${Math.floor(performance.now())}.ts`);
    writeFileSync(file, holderScript);
    writeFileSync(join(directory, 'package.json'), '{"type":"module"}');
    child = new NodeChild(file, [], { stdin: 'pipe' });
    await child.line(0);
    return child;
  };
  afterEach(async () => {
    await child?.kill();
    child = null;
  });

  it('S1-04 is EBUSY on every function of the group, with its user, and may open other groups', async () => {
    await start();
    await take(GRAPHICS);
    expect(await answers(1, address(SOUND))).toMatch(
      new RegExp(`^EBUSY: .*is in use by process ${process.pid} \\(node, uid ${process.getuid!()}\\)`),
    );
    expect(await answers(2, address(ALONE))).toBe('ok');
    const run = await VfioProcess.run('config', address(GRAPHICS));
    expect([run.status, run.stderr]).toEqual([4, expect.stringContaining(`process ${process.pid} (node, uid`)]);
  });

  it('S1-04 waits for a user that is about to go, and then has the group', async () => {
    await start();
    expect(await answers(1, address(GRAPHICS))).toBe('ok');
    // Its connections end one after the other: the next user must find none of them in the way.
    expect(await answers(2, address(SOUND))).toBe('ok');
    const gone = child!.kill();
    await take(SOUND);
    await take(GRAPHICS);
    await gone;
  });

  it('S1-04 a refusal names the holder and leaves the group to it', async () => {
    await start();
    expect(await answers(1, address(GRAPHICS))).toBe('ok');
    const error = await refusal(open(address(SOUND)));
    expect(error).toMatchObject({ code: 'EBUSY', fix: 'Disconnect that one first.' });
    expect(error.message).toContain(`in use by process ${child!.process.pid} (`);
    expect(await answers(2, address(SOUND))).toBe('ok');
  });
});

describe('server and client in one thread', () => {
  it('are refused at once: the client would wait for itself', async () => {
    const path = join(directory, 'own.sock');
    using server = new DeviceServer(edu(), { keepAlive: false });
    server.listen(path);
    expect(await refusal(open(`unix:${path}`))).toMatchObject({
      code: 'EDEADLK',
      message: `${path} is served by this thread, which would wait for its own answer`,
    });
  });

  it('in two threads of one process they work', async () => {
    const path = join(directory, 'worker.sock');
    const code = `
import { parentPort } from 'node:worker_threads';
import ${JSON.stringify(new URL('../bin/typescript.js', import.meta.url).href)};
const { serve } = await import(${JSON.stringify(new URL('../src/doors/server.ts', import.meta.url).href)});
await serve('sim:edu', { path: ${JSON.stringify(path)} });
parentPort.postMessage('ready');`;
    const file = join(directory, 'worker.mjs');
    writeFileSync(file, code);
    const worker = new Worker(file);
    await new Promise((resolve, reject) => worker.once('message', resolve).once('error', reject));
    const device = await open(`unix:${path}`);
    expect(device.config.ids).toBe('1234:11e8');
    device.close();
    await worker.terminate();
  });
});
