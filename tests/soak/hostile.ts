/**
 * Two innocent virtual functions of an 82576 exchange numbered frames, while the third one and the
 * partner on the wire do harm. No innocent frame is altered, reaches a hostile one, or is lost
 * without a counter that says so; no memory but the hostile ones' own changes. The clock is the
 * run's own: the same seed gives the same run.
 */
import { totalOf } from '../../src/abi/wire-tally.ts';
import { openThrough, simulate } from '../../src/api/simulation.ts';
import { Cleanup } from '../../src/base/cleanup.ts';
import { ManualClock } from '../../src/base/clock.ts';
import { silentLogger } from '../../src/base/log.ts';
import { PhysicalPort } from '../../src/drivers/82576/physical-port.ts';
import { VirtualPort } from '../../src/drivers/82576/virtual-port.ts';
import { DriverDevice } from '../../src/drivers/kit/driver-device.ts';
import { intel82576 } from '../../src/models/82576/82576.ts';
import { cable } from '../../src/models/wires/cable.ts';
import { HostileTenant } from './hostile-tenant.ts';
import { InnocentTenant } from './innocent-tenant.ts';
import { Random } from './random.ts';
import type { SoakOptions } from './run.ts';
import { settled, turn } from './settled.ts';

const ROUNDS = 200_000;
const TOKEN = '83d8f4f2-509f-382f-3c1e-e6bfe0fa1001';
const DEEDS = 6;
const CHECK_EVERY = 16;
/** A link that a hostile partner keeps down holds frames up, and loses none. */
const TRUCE_EVERY = 200;

/** @param rounds of deeds and frames; with `minutes`, as many as fit into that time */
export async function hostile({ minutes, seed }: SoakOptions, rounds = ROUNDS): Promise<string> {
  const clock = new ManualClock();
  const random = new Random(seed);
  using undo = new Cleanup();
  const [left, right] = cable();
  const end = minutes === undefined ? Number.POSITIVE_INFINITY : performance.now() + minutes * 60_000;

  const card = simulate(intel82576({ wire: left, mac: '52:54:00:00:00:01' }), { clock, log: silentLogger, token: TOKEN });
  card.machine.setParam('enableSriov', true);
  const partner = simulate(intel82576({ wire: right, mac: '52:54:00:00:00:02' }), { clock, log: silentLogger });
  const attach = ({ device, owns }: ReturnType<typeof openThrough>) => DriverDevice.attach(device, { owns, clock });
  const host = await settled(
    clock,
    PhysicalPort.start(DriverDevice.attach(card.device, { owns: card.owns, clock }), { virtualFunctions: true }),
  );
  undo.use(host);
  await settled(clock, card.machine.setNumVfs(card.bdf, 3));
  const vf = (index: number) => attach(openThrough(card.machine, vfAddress(index), undefined, TOKEN));
  const start = (index: number) =>
    settled(clock, VirtualPort.start(vf(index), { interrupts: 'poll', transmitEntries: 64, receiveEntries: 64 }));
  const secret = random.bytes(16);
  const innocents = [new InnocentTenant(await start(0), secret), new InnocentTenant(await start(1), secret)] as const;
  for (const { port } of innocents) undo.use(port);
  const victims = [...innocents.map(({ port }) => port.mac), host.mac];
  const tenants = [vf(2), DriverDevice.attach(partner.device, { owns: partner.owns, clock })].map((dev) => {
    undo.use(dev);
    return new HostileTenant(dev, random, victims);
  });

  const [a, b] = innocents;
  let done = 0;
  let rest = 0;
  let [asked, denied] = [0, 0];
  host.on((event) => {
    if (event.kind === 'vf-started' && event.vf === 2) asked++;
    else if (event.kind === 'vf-refused') denied++;
  });
  while (minutes === undefined ? done < rounds : performance.now() < end) {
    for (let i = 0; i < DEEDS; i++) random.pick(tenants).act();
    a.send(b, random.below(12), random);
    b.send(a, random.below(12), random);
    clock.advance(1);
    await turn();
    // One that rests for a while has no room for all that comes.
    if (random.once(100)) rest = random.below(20);
    if (rest-- <= 0) take();
    done++;
    if (done % CHECK_EVERY === 0) check(innocents, tenants, secret);
    if (done % TRUCE_EVERY === 0) await truce();
  }
  await truce();
  check(innocents, tenants, secret);
  const found = a.found + b.found;
  const sent = a.sent + b.sent;
  if (found < sent / 2) throw new Error(`${found} of ${sent} frames have arrived: the hostile ones stop the others`);
  const spoofed = host.statistics().registers.SSVPC!;
  if (asked === 0 || denied === 0 || spoofed === 0)
    throw new Error(`${asked} requests, ${denied} denied, ${spoofed} spoofs: a harmless run`);
  const { counters } = left;
  const refused = tenants.reduce((sum, each) => sum + each.refused, 0);
  return `${done} rounds, ${sent} frames sent, ${found} found whole, ${sent - found} counted as lost, ${a.foreign + b.foreign} foreign ones, ${totalOf(counters.lost)} lost by the wire, ${refused} deeds and ${denied} requests of ${asked} drivers refused, ${spoofed} frames in the name of others: nothing was touched`;

  function take(): void {
    a.take(b);
    b.take(a);
  }

  /** The hostile ones rest, the link is up, and all frames that are under way arrive. */
  async function truce(): Promise<void> {
    for (const each of tenants) each.end();
    const peer = tenants[1]!;
    peer.raiseLink();
    await settled(clock, host.linkUp());
    for (const { port } of innocents) await settled(clock, port.linkUp());
    // One that rested has frames in its ring.
    take();
    for (let step = 0; !innocents.every((one) => one.idle); step++) {
      if (step > 5000) throw new Error('frames stay under way: a ring is wedged');
      clock.advance(1);
      await turn();
      take();
    }
    const lost = a.sent + b.sent - a.found - b.found;
    const counted = host.statistics().registers.MPC! + a.dropped + b.dropped;
    if (lost > counted) throw new Error(`${lost} frames are lost, and ${counted} are counted`);
  }
}

function check(innocents: readonly InnocentTenant[], tenants: readonly HostileTenant[], secret: Uint8Array): void {
  for (const tenant of tenants) tenant.check(secret);
  for (const one of innocents) one.checkMemory();
}

/** VFs begin 0x80 functions behind their PF, and are two apart (9.7.2.5). */
function vfAddress(vf: number): string {
  const routing = 0x80 + 2 * vf;
  return `0000:01:${(routing >> 3).toString(16).padStart(2, '0')}.${routing & 7}`;
}
