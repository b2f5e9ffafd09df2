import { describe, expect, it } from 'vitest';
import { plain } from '../../tests/kit/device-rig.ts';
import { openDescriptors } from '../../tests/kit/open-descriptors.ts';
import { clientMemory, type RawClient, ServerRig, settle } from '../../tests/kit/vfio-user-rig.ts';
import { msi, msix, pm } from '../pci/capabilities.ts';
import type { PciDeclaration } from '../pci/declaration.ts';
import { EventFd } from '../sys/eventfd.ts';
import { closeAll } from './frames.ts';
import * as m from './messages.ts';
import { Command, type SetIrqsRequest } from './messages.ts';

const declaration: PciDeclaration = {
  ...plain,
  bars: [
    { index: 0, size: 0x1000, type: 'mem32' },
    { index: 4, size: 0x2000, type: 'mem32' },
  ],
  capabilities: [pm(), msi({ vectors: 32 }), msix({ vectors: 64, tableBar: 4, tableOffset: 0, pbaBar: 4, pbaOffset: 0x1000 })],
};
const [INTX, MSI, MSIX] = [0, 1, 2];

async function attached() {
  const rig = new ServerRig({ declaration });
  const { client, session } = await rig.attach();
  return { rig, client, session, irq: rig.rig.model.host.irq, [Symbol.dispose]: () => rig[Symbol.dispose]() };
}

type Request = Partial<SetIrqsRequest> & { readonly events?: readonly EventFd[] };

async function set(client: RawClient, { events = [], ...request }: Request): Promise<string | null> {
  const fds = events.map((event) => event.duplicateFd());
  const whole = { index: INTX, start: 0, count: 1, action: 'trigger', data: 'eventfd', ...request } as const;
  const errno = await client.errnoOf(Command.DEVICE_SET_IRQS, m.encodeSetIrqs(whole), { fds });
  closeAll(fds);
  return errno;
}

const make = (count: number) => Array.from({ length: count }, () => EventFd.create());

describe('INTx', () => {
  it('signals the eventfd, masks itself, and signals again after unmask', async () => {
    using at = await attached();
    using event = EventFd.create();
    expect(await set(at.client, { events: [event] })).toBeNull();
    at.irq.raise();
    expect([event.read(), event.read()]).toEqual([1n, null]);
    expect(await set(at.client, { action: 'unmask', data: 'none' })).toBeNull();
    expect(event.read()).toBe(1n);
    at.irq.lower();
    expect(await set(at.client, { action: 'unmask', data: 'bool', values: Uint8Array.of(1) })).toBeNull();
    expect(event.read()).toBeNull();
    expect(await set(at.client, { action: 'mask', data: 'none' })).toBeNull();
    at.irq.raise();
    expect(event.read()).toBeNull();
  });

  it('is unmasked by an eventfd too', async () => {
    using at = await attached();
    using event = EventFd.create();
    using unmask = EventFd.create();
    await set(at.client, { events: [event] });
    expect(await set(at.client, { action: 'unmask', events: [unmask] })).toBeNull();
    at.irq.raise();
    expect(event.read()).toBe(1n);
    unmask.signal();
    let again = event.read();
    while (again === null) {
      await settle();
      again = event.read();
    }
    expect(again).toBe(1n);
  });

  it('a second unmask eventfd takes the place of the first: QEMU closes its own and says nothing', async () => {
    using at = await attached();
    using event = EventFd.create();
    using before = EventFd.create();
    using unmask = EventFd.create();
    await set(at.client, { events: [event] });
    for (const event of [before, unmask]) expect(await set(at.client, { action: 'unmask', events: [event] })).toBeNull();
    at.irq.raise();
    expect(event.read()).toBe(1n);
    unmask.signal();
    let again = event.read();
    while (again === null) {
      await settle();
      again = event.read();
    }
    expect(again).toBe(1n);
  });

  it('can be triggered by the client, and taken away without descriptors', async () => {
    using at = await attached();
    using event = EventFd.create();
    await set(at.client, { events: [event] });
    expect(await set(at.client, { data: 'none' })).toBeNull();
    expect(await set(at.client, { data: 'bool', values: Uint8Array.of(0) })).toBeNull();
    expect(event.read()).toBe(1n);
    expect(await set(at.client, {})).toBeNull();
    at.irq.raise();
    expect(event.read()).toBeNull();
  });
});

describe('MSI and MSI-X', () => {
  it('signal each vector its own', async () => {
    using at = await attached();
    const events = make(4);
    expect(await set(at.client, { index: MSIX, start: 0, count: 4, events })).toBeNull();
    at.irq.trigger(2);
    expect(events.map((event) => event.read())).toEqual([null, null, 1n, null]);
    expect(await set(at.client, { index: MSIX, start: 2, count: 1 })).toBeNull();
    at.irq.trigger(2);
    at.irq.trigger(3);
    expect(events.map((event) => event.read())).toEqual([null, null, null, 1n]);
    expect(await set(at.client, { index: MSIX, count: 0, data: 'none' })).toBeNull();
    expect(at.irq.trigger(3)).toBe(false);
    closeAll(events);
  });

  it.each([
    ['MSI', MSI, 32],
    ['MSI-X', MSIX, 64],
  ])('%s: all vectors, 16 descriptors at a time', async (_, index, vectors) => {
    using at = await attached();
    const before = openDescriptors();
    const events = make(vectors!);
    for (let start = 0; start < vectors!; start += 16) {
      expect(await set(at.client, { index: index!, start, count: 16, events: events.slice(start, start + 16) })).toBeNull();
    }
    for (let vector = 0; vector < vectors!; vector++) expect(at.irq.trigger(vector)).toBe(true);
    expect(events.map((event) => event.read())).toEqual(new Array(vectors).fill(1n));
    await set(at.client, { index: index!, count: 0, data: 'none' });
    closeAll(events);
    expect(openDescriptors()).toBe(before);
  });

  it('runs of vectors with and without a descriptor, as QEMU sends them', async () => {
    using at = await attached();
    const events = make(3);
    expect(await set(at.client, { index: MSI, start: 0, count: 2, events: events.slice(0, 2) })).toBeNull();
    expect(await set(at.client, { index: MSI, start: 2, count: 2 })).toBeNull();
    expect(await set(at.client, { index: MSI, start: 4, count: 1, events: events.slice(2) })).toBeNull();
    for (const vector of [0, 1, 4]) at.irq.trigger(vector);
    expect(events.map((event) => event.read())).toEqual([1n, 1n, 1n]);
    closeAll(events);
  });

  it('MSI grows only where it stopped, and only from the client that enabled it', async () => {
    using at = await attached();
    const events = make(2);
    expect(await set(at.client, { index: MSI, start: 0, count: 1, events: events.slice(0, 1) })).toBeNull();
    expect(await set(at.client, { index: MSI, start: 8, count: 1, events: events.slice(1) })).toBe('EINVAL');
    at.irq.trigger(0);
    expect(events.map((event) => event.read())).toEqual([1n, null]);
    closeAll(events);
  });

  it('one type at a time', async () => {
    using at = await attached();
    using event = EventFd.create();
    await set(at.client, { events: [event] });
    expect(await set(at.client, { index: MSI, events: [event] })).toBe('EINVAL');
    expect(await set(at.client, { index: INTX, count: 0, data: 'none' })).toBeNull();
    expect(await set(at.client, { index: MSI, events: [event] })).toBeNull();
  });
});

describe('what is refused changes nothing and keeps no descriptor', () => {
  it.each<[string, Request, number, string]>([
    ['descriptors with DATA_NONE', { data: 'none' }, 1, 'EINVAL'],
    ['descriptors with DATA_BOOL', { data: 'bool', values: Uint8Array.of(1) }, 1, 'EINVAL'],
    ['more descriptors than interrupts', {}, 2, 'EINVAL'],
    ['fewer descriptors than interrupts', { index: MSIX, count: 3 }, 2, 'EINVAL'],
    ['descriptors for none', { index: MSIX, count: 0 }, 1, 'EINVAL'],
    ['past the last vector', { index: MSIX, start: 63, count: 2 }, 2, 'EINVAL'],
    ['masks of MSI-X', { index: MSIX, action: 'mask' }, 1, 'ENOTTY'],
    ['an index that is not there', { index: 5 }, 1, 'EINVAL'],
  ])('%s', async (_, request, fds, errno) => {
    using at = await attached();
    const events = make(fds);
    const before = openDescriptors();
    expect(await set(at.client, { ...request, events })).toBe(errno);
    expect(openDescriptors()).toBe(before);
    closeAll(events);
  });

  it('a descriptor that is no eventfd, among others that are', async () => {
    using at = await attached();
    using memory = clientMemory(0x1000);
    const [event] = make(1);
    const fds = [event!.duplicateFd(), memory.duplicateFd(), event!.duplicateFd()];
    const before = openDescriptors();
    const request = m.encodeSetIrqs({ index: MSIX, start: 0, count: 3, action: 'trigger', data: 'eventfd' });
    expect(await at.client.errnoOf(Command.DEVICE_SET_IRQS, request, { fds })).toBe('EINVAL');
    expect([openDescriptors(), at.irq.trigger(0)]).toEqual([before, false]);
    closeAll([...fds, event!]);
  });
});

it('REQ asks the client to give the device back', async () => {
  using at = await attached();
  using event = EventFd.create();
  expect(await set(at.client, { index: 4, events: [event] })).toBeNull();
  void at.rig.rig.device.unregister();
  expect(event.read()).toBe(1n);
  at.client[Symbol.dispose]();
  await at.session.ended;
});

it('FEATURE: the wake-up eventfd comes beside the message', async () => {
  using at = await attached();
  using event = EventFd.create();
  using fd = event.duplicateFd();
  const before = openDescriptors();
  const entry = m.encodeFeature({ feature: 4, get: false, set: true, probe: false, data: new Uint8Array(8) });
  expect(await at.client.errnoOf(Command.DEVICE_FEATURE, entry)).toBe('EINVAL');
  expect(await at.client.errnoOf(Command.DEVICE_FEATURE, entry, { fds: [fd, fd] })).toBe('EINVAL');
  expect(openDescriptors()).toBe(before);
  expect(await at.client.errnoOf(Command.DEVICE_FEATURE, entry, { fds: [fd] })).toBeNull();
  at.irq.raise();
  expect(event.read()).toBeNull();
});

it('a client that is gone leaves no eventfd behind', async () => {
  using at = await attached();
  const before = openDescriptors();
  const events = make(20);
  await set(at.client, { index: MSI, count: 10, events: events.slice(0, 10) });
  await set(at.client, { index: 4, events: [events[10]!] });
  await set(at.client, { index: MSI, start: 10, count: 5, events: events.slice(10, 15) });
  closeAll(events);
  expect(openDescriptors()).toBeGreaterThan(before);
  at.client[Symbol.dispose]();
  await at.session.ended;
  expect(openDescriptors()).toBe(before);
});
