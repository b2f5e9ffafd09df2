/** The namespaces of a controller, found with lists of all kinds. */
import { afterEach, describe, expect, it } from 'vitest';
import { closeAll, start } from '../../../tests/kit/nvme/driver-under-test.ts';
import { type FakeCommand, FakeController } from '../../../tests/kit/nvme/fake-controller.ts';
import { AdminOpcode } from '../../abi/nvme.ts';
import { Cns } from '../../abi/nvme-identify.ts';
import { IdentifyController } from '../../abi/nvme-structs.ts';

afterEach(closeAll);

describe('namespaces', () => {
  it('5.15.2.3 finds namespaces also after a full list', async () => {
    const fake = new FakeController();
    for (let id = 2; id <= 2500; id += 2) fake.disks.set(id, { data: new Uint8Array(4096), lbads: 12, ms: 0 });
    fake.controller.nn = 0xffff_fffe;
    const driver = await start(fake);
    expect(driver.namespaces).toHaveLength(1251);
    expect(driver.namespace(2500).blockSize).toBe(4096);
    const error = (() => {
      try {
        return driver.namespace(3);
      } catch (e) {
        return e;
      }
    })();
    expect(error).toMatchObject({ code: 'ENXIO', fix: expect.stringContaining('1, 2, 4') });
  });

  it('8.2 a controller of NVMe 1.0 has no list: its namespaces are tried', async () => {
    const fake = new FakeController();
    fake.vs = 0x1_0000;
    fake.disks.set(3, { data: new Uint8Array(4096), lbads: 9, ms: 0 });
    expect((await start(fake)).namespaces.map(({ id }) => id)).toEqual([1, 3]);
    expect(fake.commands.filter(isList)).toEqual([]);
  });

  const isList = ({ queue, opcode, dw }: FakeCommand) =>
    queue === 0 && opcode === AdminOpcode.IDENTIFY && (dw[10]! & 0xff) === Cns.ACTIVE_NAMESPACES;
  /** Answers the list with `page` of 32-bit words, over and over. */
  const lists = (fake: FakeController, words: readonly number[]) => {
    fake.script = (command) => {
      if (!isList(command)) return undefined;
      const page = new Uint8Array(4096);
      new Uint32Array(page.buffer).set(words.slice(0, 1024));
      let at = 0;
      for (const piece of fake.data(command, 4096)) {
        piece.set(page.subarray(at, at + piece.length));
        at += piece.length;
      }
      return 0;
    };
  };
  const withThree = () => {
    const fake = new FakeController();
    fake.disks.set(3, { data: new Uint8Array(4096), lbads: 9, ms: 0 });
    return fake;
  };

  it.each([
    ['Invalid Field, Do Not Retry', 0x4002],
    ['Invalid Namespace or Format: CNS is one bit, and NSID is 0', 0x400b],
    ['Internal Error', 0x006],
    ['a status of the vendor', 0x7c1],
  ])('5.15.2.3 a list that fails with %s: its namespaces are tried', async (_, status) => {
    const fake = withThree();
    fake.script = (command) => (isList(command) ? status : undefined);
    expect((await start(fake)).namespaces.map(({ id }) => id)).toEqual([1, 3]);
  });

  it.each([0x1_0100, 0x1_0400])('5.15.2.3 VS %i: the answer to the list is Identify Controller: its namespaces are tried', async (vs) => {
    const fake = withThree();
    fake.vs = vs;
    const data = new Uint8Array(4096);
    IdentifyController.encode(new DataView(data.buffer), { ...fake.controller, vid: 0x8086, ssvid: 0x1af4 });
    lists(fake, [...new Uint32Array(data.buffer)]);
    expect((await start(fake)).namespaces.map(({ id }) => id)).toEqual([1, 3]);
  });

  it('5.15.2.3 the answer to the list is Identify Namespace: its namespaces are tried', async () => {
    const fake = withThree();
    lists(fake, [0x3465_f870, 0, 0x3465_f870]);
    expect((await start(fake)).namespaces.map(({ id }) => id)).toEqual([1, 3]);
  });

  it.each([
    ['Identify Namespace of a small one', [3, 0, 3, 0, 1]],
    ['Identify Namespace of one without blocks', [0, 0, 0, 0, 0x0900_0000]],
    ['a list of the vendor’s, with identifiers that none has', [1, 0xffff_fffe]],
  ] as const)('5.15.2.3 the answer to the list is %s: its namespaces are tried', async (_, words) => {
    const fake = withThree();
    lists(fake, words);
    expect((await start(fake)).namespaces.map(({ id }) => id)).toEqual([1, 3]);
  });

  it('5.15.2.3 identifiers above NN count where the list is in order', async () => {
    const fake = withThree();
    fake.disks.set(70_000, { data: new Uint8Array(4096), lbads: 9, ms: 0 });
    expect((await start(fake)).namespaces.map(({ id }) => id)).toEqual([1, 3, 70_000]);
  });

  const identifyFails = (fake: FakeController, status: () => number | undefined) => {
    fake.script = ({ opcode, dw }) => (opcode === AdminOpcode.IDENTIFY && (dw[10]! & 0xff) === Cns.NAMESPACE ? status() : undefined);
  };

  it('4.6.1 a namespace that is not ready when it is looked for is asked again', async () => {
    const fake = new FakeController();
    let tries = 0;
    identifyFails(fake, () => (++tries <= 3 ? 0x082 : undefined));
    expect((await start(fake)).namespaces.map(({ id }) => id)).toEqual([1]);
  });

  it('5.15.2.1 namespaces that cannot be identified make one line of the log', async () => {
    const fake = withThree();
    const lines: string[] = [];
    identifyFails(fake, () => 0x4006);
    const driver = await start(fake, { log: { log: (level, line) => void lines.push(`${level} ${line}`) } });
    expect([driver.namespaces, lines.length]).toEqual([[], 1]);
    expect(lines[0]).toMatch(/^warn Identify .* of namespace 1 .*Internal Error.*left alone \(and 1 more/);
  });

  it.each([
    ['not in order', [3, 1]],
    ['with one twice', [1, 1, 3]],
    ['that is full and never ends', Array<number>(1024).fill(3)],
    ['that starts over and over', Array.from({ length: 1024 }, (_, i) => i + 1)],
  ] as const)('5.15.2.3 a list %s: each namespace is there once', async (_, words) => {
    const fake = withThree();
    lists(fake, words);
    expect((await start(fake)).namespaces.map(({ id }) => id)).toEqual([1, 3]);
  });

  it('5.15.2.3 a list that is empty is believed: nothing is attached', async () => {
    const fake = withThree();
    lists(fake, []);
    expect((await start(fake)).namespaces).toEqual([]);
  });

  it('5.15.2.3 a list whose second part fails: the driver has the listed namespaces and those that it finds by trying', async () => {
    const fake = new FakeController();
    for (let id = 2; id <= 2500; id += 2) fake.disks.set(id, { data: new Uint8Array(4096), lbads: 12, ms: 0 });
    fake.controller.nn = 0xffff_ffff;
    fake.script = (command) => (isList(command) && command.nsid > 0 ? 0x006 : undefined);
    const driver = await start(fake);
    expect([driver.namespaces.length, driver.namespaces.at(-1)!.id]).toEqual([1024, 2046]);
  });

  it('8.2 an NN that is larger than anything ends the trying after 1024', async () => {
    const fake = new FakeController();
    fake.vs = 0x1_0000;
    fake.controller.nn = 0xffff_ffff;
    expect((await start(fake)).namespaces.map(({ id }) => id)).toEqual([1]);
    expect(fake.commands.filter(({ opcode, dw }) => opcode === AdminOpcode.IDENTIFY && dw[10] === Cns.NAMESPACE)).toHaveLength(1024);
  });
});
