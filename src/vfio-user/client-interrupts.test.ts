/** Interrupts of a client. Against a peer that follows a script. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { ClientRig, seen, words } from '../../tests/kit/client-rig.ts';
import { errnoFrom } from '../../tests/kit/errno.ts';
import { until } from '../../tests/kit/event-loop.ts';
import { openDescriptors } from '../../tests/kit/open-descriptors.ts';
import { IrqIndex } from '../abi/vfio.ts';
import { VfioError } from '../base/errno.ts';
import { EventFd } from '../sys/eventfd.ts';
import { FakeEventFd } from '../sys/fake.ts';
import { Command } from './messages.ts';

let rig: ClientRig;
beforeAll(async () => {
  rig = await ClientRig.start();
});
afterAll(() => rig[Symbol.asyncDispose]());

describe('vfio-user client: interrupts', () => {
  it('eventfds of the caller go to the server; those of others are passed on', async () => {
    const connected = rig.connect({
      on: {
        [Command.REGION_WRITE]: [
          { do: 'signal', index: 1, vector: 0 },
          { do: 'signal', index: 1, vector: 1 },
        ],
      },
    });
    const { device } = connected;
    using own = EventFd.create();
    using other = new FakeEventFd();
    expect(device.setIrqs({ index: IrqIndex.MSI, start: 0, count: 2, action: 'trigger', data: 'sinks', sinks: [own, other] })).toBe(0);
    expect([own.references, other.references]).toEqual([2, 2]);
    device.region(0).write32(0, 1);
    expect(own.read()).toBe(1n);
    device.region(0).write32(0, 1);
    await until(() => other.count > 0);
    device.setIrqs({ index: IrqIndex.MSI, start: 0, count: 0, action: 'trigger', data: 'none' });
    expect([own.references, other.references]).toEqual([1, 1]);
    const set = await seen(connected, Command.DEVICE_SET_IRQS);
    expect(set.map((m) => [m.fds, ...words(m)])).toEqual([
      [2, 20, 0x24, 1, 0, 2],
      [0, 20, 0x21, 1, 0, 0],
    ]);
  });

  it('when descriptors run out half way, or a line cannot be made, nothing stays open and nothing was asked', async () => {
    const connected = rig.connect();
    const { device } = connected;
    device.irq(IrqIndex.MSI);
    const fails = (): never => {
      throw new VfioError('EMFILE', 'no descriptor left');
    };
    using good = EventFd.create();
    using bad = EventFd.create();
    bad.duplicateFd = fails;
    const released = new FakeEventFd();
    released.get = fails;
    const before = openDescriptors();
    for (const sink of [bad, released]) {
      const set = () => device.setIrqs({ index: IrqIndex.MSI, start: 0, count: 2, action: 'trigger', data: 'sinks', sinks: [good, sink] });
      expect(errnoFrom(set)).toBe('EMFILE');
    }
    const source = { listen: fails };
    const unmask = () =>
      device.setIrqs({ index: IrqIndex.INTX, start: 0, count: 1, action: 'unmask', data: 'sinks', sources: [source as never] });
    expect(errnoFrom(unmask)).toBe('EMFILE');
    expect([good.references, openDescriptors()]).toEqual([1, before]);
    expect(await seen(connected, Command.DEVICE_SET_IRQS)).toEqual([]);
  });

  it('as many descriptors as the server takes, the last first; vectors without one are messages of their own', async () => {
    const connected = rig.connect({ json: '{"capabilities":{"max_msg_fds":3}}' });
    const { device } = connected;
    using fd = EventFd.create();
    const sinks = [fd, fd, fd, fd, null, null, fd, fd, null];
    device.setIrqs({ index: IrqIndex.MSIX, start: 2, count: 9, action: 'trigger', data: 'sinks', sinks });
    expect(fd.references).toBe(7);
    device.setIrqs({ index: IrqIndex.MSIX, start: 2, count: 2, action: 'trigger', data: 'sinks', sinks: [null, null] });
    expect(fd.references).toBe(5);
    const set = await seen(connected, Command.DEVICE_SET_IRQS);
    expect(set.map((m) => [m.fds, ...words(m).slice(3)])).toEqual([
      [0, 10, 1],
      [2, 8, 2],
      [0, 6, 2],
      [3, 3, 3],
      [1, 2, 1],
      [0, 2, 2],
    ]);
    expect(fd.references).toBe(1);
  });

  it('when a part of many is refused, what was done is undone', async () => {
    const connected = rig.connect({
      json: '{"capabilities":{"max_msg_fds":1}}',
      on: {
        [Command.DEVICE_SET_IRQS]: [
          { do: 'answer' },
          { do: 'error', errno: 28 },
          { do: 'answer' },
          { do: 'answer' },
          { do: 'error', errno: 28 },
        ],
      },
    });
    const { device } = connected;
    using fd = EventFd.create();
    const set = (count: number) =>
      errnoFrom(() =>
        device.setIrqs({ index: IrqIndex.MSIX, start: 0, count, action: 'trigger', data: 'sinks', sinks: new Array(count).fill(fd) }),
      );
    expect([set(2), fd.references]).toEqual(['ENOSPC', 1]);
    expect([set(1), fd.references]).toEqual(['none', 2]);
    // The second message of the next is answered as usual, so only a single one is refused here:
    // nothing to undo.
    expect([set(1), fd.references]).toEqual(['ENOSPC', 2]);
    const sent = await seen(connected, Command.DEVICE_SET_IRQS);
    expect(sent.map((m) => [m.fds, ...words(m).slice(1)])).toEqual([
      [1, 0x24, 2, 1, 1],
      [1, 0x24, 2, 0, 1],
      [0, 0x21, 2, 0, 0],
      [1, 0x24, 2, 0, 1],
      [1, 0x24, 2, 0, 1],
    ]);
  });

  it('a source that unmasks is the caller’s eventfd, or one that is passed on', async () => {
    const connected = rig.connect();
    const { device } = connected;
    using own = EventFd.create();
    using other = new FakeEventFd();
    const unmask = (source: EventFd | FakeEventFd | null) =>
      device.setIrqs({ index: IrqIndex.INTX, start: 0, count: 1, action: 'unmask', data: 'sinks', sources: [source] });
    unmask(own);
    expect([own.references, errnoFrom(() => unmask(other)), own.references, other.references]).toEqual([2, 'EBUSY', 2, 1]);
    unmask(null);
    unmask(other);
    expect([own.references, other.references]).toEqual([1, 2]);
    unmask(null);
    expect(other.references).toBe(1);
    device.setIrqs({ index: IrqIndex.INTX, start: 0, count: 1, action: 'mask', data: 'bool', values: [true] });
    const set = await seen(connected, Command.DEVICE_SET_IRQS);
    expect(set.map((m) => [m.fds, m.payload.length, ...words(m).slice(1, 2)])).toEqual([
      [1, 20, 0x14],
      [0, 20, 0x14],
      [1, 20, 0x14],
      [0, 20, 0x14],
      [0, 21, 0x0a],
    ]);
  });

  it('REQ and ERR make events, and signal the caller’s sink too', async () => {
    const connected = rig.connect({
      on: {
        [Command.REGION_WRITE]: [
          { do: 'signal', index: 4, vector: 0 },
          { do: 'signal', index: 3, vector: 0 },
        ],
      },
    });
    const { device } = connected;
    const events: string[] = [];
    using fd = EventFd.create();
    const request = (data: object) =>
      errnoFrom(() => device.setIrqs({ index: IrqIndex.REQ, start: 0, count: 1, action: 'trigger', ...data } as never));
    expect(request({ data: 'none' })).toBe('EINVAL');
    expect(request({ action: 'mask', data: 'none' })).toBe('ENOTTY');
    const listening = device.on((event) => events.push(event.kind));
    expect(request({ data: 'sinks', sinks: [fd] })).toBe('none');
    device.region(0).write32(0, 1);
    device.region(0).write32(0, 1);
    await until(() => events.length === 2);
    expect([events.sort(), fd.read()]).toEqual([['error', 'request'], 1n]);
    expect([request({ data: 'none' }), fd.read(), fd.references]).toEqual(['none', 1n, 2]);
    expect([request({ data: 'none', count: 0 }), fd.references, request({ data: 'none', count: 0 })]).toEqual(['none', 1, 'EINVAL']);
    listening[Symbol.dispose]();
    const set = await seen(connected, Command.DEVICE_SET_IRQS);
    expect(set.map((m) => [m.fds, ...words(m).slice(1)])).toEqual([
      [1, 0x24, 3, 0, 1],
      [1, 0x24, 4, 0, 1],
      [0, 0x21, 3, 0, 0],
      [0, 0x21, 4, 0, 0],
    ]);
  });

  it('a server without ERR and REQ makes no such events; the others come', () => {
    using device = rig.connect({ irqs: [[1, 1]] }).device;
    using _listening = device.on(() => {});
    expect(errnoFrom(() => device.irq(4))).toBe('EINVAL');
    expect(device.irq(0)).toEqual({ index: 0, flags: 1, count: 1 });
  });
});
