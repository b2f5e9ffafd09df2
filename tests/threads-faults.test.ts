/**
 * Devices in threads whose code keeps the thread, or ends it, while it loads, while it serves and
 * while the server stops.
 */
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { administerMachine, askMachine } from '../src/api/machine-server.ts';
import { VfioUserDevice } from '../src/vfio-user/client.ts';
import { VfioProcess } from './kit/vfio-process.ts';

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'vfio-ts-'));
  mkdirSync(at('served'));
});
afterEach(() => rmSync(folder, { recursive: true }));

const at = (name: string) => join(folder, name);
const EDU_ID = 0x010000ed;
const SELFISH_ID = 0x5e1f;
const Selfish = { EXIT: 16, SYSTEM_CALL: 20, PRINT: 24, TIMER: 28 } as const;
const selfish = join(import.meta.dirname, 'kit/selfish-model.ts');

/** An edu device and the selfish one, which looks for `go`. */
const devices = () => ['edu', `${selfish},file=${at('go')}`];
const serve = () => new VfioProcess(['serve', ...devices(), '--socket-path', at('served')]);
const read = (name: string) => {
  using device = VfioUserDevice.connect(at(`served/${name}.sock`));
  return device.region(0).read32(0);
};
/** In memory. */
function residentBytes(pid: number): number {
  return Number(/^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))![1]) * 1024;
}

/** Write 1 to a register of the selfish device. */
function order(register: number): void {
  using device = VfioUserDevice.connect(at('served/selfish-model.sock'));
  device.region(0).write32(register, 1);
}

describe('a device that does not load', () => {
  it('waits for something: that is reported, and a signal ends the server with no socket left', async () => {
    writeFileSync(at('go.wait'), '');
    await using served = serve();
    await served.says('selfish-model has not been loaded for 5 s');
    expect(await served.end()).toBe(0);
    expect(readdirSync(at('served'))).toEqual([]);
  });

  it('ends its thread: the server says so, and ends with no socket left', async () => {
    writeFileSync(at('go.exit'), '');
    await using served = serve();
    expect(await served.ended).toBe(1);
    expect(served.stderr).toMatch(/^vfio: EIO: selfish-model cannot be loaded: its code called process.exit\(8\)$/m);
    expect(served.stderr).not.toContain('starts anew');
    expect(readdirSync(at('served'))).toEqual([]);
  });

  it('in a machine waits: a signal ends the server before it has a socket', async () => {
    writeFileSync(at('go.wait'), '');
    writeFileSync(
      at('machine.yaml'),
      `devices: [{ at: 01.0, model: ${selfish}, options: { file: ${at('go')} } }, { at: 02.0, model: edu }]`,
    );
    await using served = new VfioProcess(['serve', at('machine.yaml'), '--socket-path', at('machine')]);
    await served.says('has not been loaded for 5 s');
    expect(await served.end('SIGINT')).toBe(130);
    expect(existsSync(at('machine'))).toBe(false);
  });

  it('when it starts anew: it is tried again until it does', async () => {
    await using served = serve();
    await served.says('listening at');
    expect(read('selfish-model')).toBe(SELFISH_ID);
    writeFileSync(at('go.exit'), '');
    order(Selfish.EXIT);
    await served.says(/selfish-model does not start: .*process.exit\(8\)[\s\S]*in 0\.5 s/);
    expect(read('edu')).toBe(EDU_ID);
    rmSync(at('go.exit'));
    for (let value = 0; value !== SELFISH_ID; ) {
      await new Promise((resolve) => setTimeout(resolve, 20));
      try {
        value = read('selfish-model');
      } catch {
        // Not yet.
      }
    }
    expect(await served.end()).toBe(0);
  });
});

describe('a device that stays', () => {
  it('has a timer: the server ends without it', async () => {
    await using served = serve();
    await served.says('listening at');
    order(Selfish.TIMER);
    expect(await served.end()).toBe(0);
    expect(served.stderr).not.toContain('has not closed');
  });

  it('waits in a call of the system: the server gives up its sockets and ends by SIGKILL', async () => {
    await using served = serve();
    await served.says('listening at');
    order(Selfish.SYSTEM_CALL);
    expect(read('edu')).toBe(EDU_ID);
    expect(await served.end()).toBe('SIGKILL');
    writeFileSync(at('go'), '');
    expect(served.stderr).toContain('selfish-model cannot be ended: its code waits in a call of the system');
    expect(readdirSync(at('served'))).toEqual([]);
  });

  it('prints without end: lines are missing, the server stays small, and a signal ends it', async () => {
    await using served = serve();
    await served.says('listening at');
    const before = residentBytes(served.child.pid!);
    order(Selfish.PRINT);
    await served.says('selfish-model has not answered for 5 s');
    expect(read('edu')).toBe(EDU_ID);
    expect(residentBytes(served.child.pid!) - before).toBeLessThan(256 * 2 ** 20);
    expect(await served.end()).toBe(0);
    expect(served.stdout).toMatch(/^line 0 x+$/m);
    expect(served.stdout).toMatch(/^\(\d+ lines are missing here\)$/m);
  });
});

describe('devices that are plugged in at the same time', () => {
  const plug = (at_: string) => administerMachine(at('machine'), 'plug', { device: 'edu', at: at_ });

  it('have a place each: the second one for a place is EEXIST, as in one thread', async () => {
    writeFileSync(at('machine.yaml'), 'devices: [{ at: 01.0, model: edu, driver: vfio-pci }, { at: 02.0, model: edu, driver: vfio-pci }]');
    await using _served = await VfioProcess.serve(at('machine.yaml'), at('machine'));
    const results = await Promise.allSettled(['09.0', '09.0', '0a.0', '0a.0', '09.0'].map(plug));
    expect(results.filter(({ status }) => status === 'fulfilled')).toHaveLength(2);
    for (const result of results) if (result.status === 'rejected') expect(result.reason).toMatchObject({ code: 'EEXIST' });
    const { functions, groups } = await askMachine(at('machine'));
    expect(functions.map(({ bdf }) => bdf)).toEqual(['01', '02', '09', '0a'].map((slot) => `0000:00:${slot}.0`));
    expect(groups).toHaveLength(4);
  });

  it('join the group of what stands above them on a conventional bus', async () => {
    writeFileSync(
      at('machine.yaml'),
      `devices:
  - { at: 01.0, model: edu, driver: vfio-pci }
  - at: 02.0
    kind: root-port
    devices:
      - at: 00.0
        kind: pcie-to-pci-bridge
        devices: [{ at: 01.0, model: edu, driver: vfio-pci }, { at: 02.0, kind: pci-bridge, devices: [{ at: 03.0, model: edu }] }]
`,
    );
    const documents = [];
    for (const threads of ['1', '31']) {
      await using _served = await VfioProcess.serve(at('machine.yaml'), at('machine'), '--threads', threads);
      const inner = (await askMachine(at('machine'))).functions.find(({ kind }) => kind === 'pci-bridge')!;
      const { bdf } = (await askMachine(at('machine'))).functions.find(({ parent }) => parent === inner.bdf)!;
      await administerMachine(at('machine'), 'unplug', { bdf });
      await administerMachine(at('machine'), 'plug', { device: 'edu', behind: inner.bdf, at: '03.0' });
      documents.push((await askMachine(at('machine'))).groups.map(({ id, functions }) => ({ id, functions: [...functions].sort() })));
    }
    expect(documents[1]).toEqual(documents[0]);
  });
});
