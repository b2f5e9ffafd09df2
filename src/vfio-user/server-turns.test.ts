/** Clients of one thread take turns. */
import { describe, expect, it } from 'vitest';
import { RawClient, ServerRig } from '../../tests/kit/vfio-user-rig.ts';
import { HeaderFlags } from '../abi/vfio-user.ts';
import { ManualClock } from '../base/clock.ts';
import { UnixSocket } from '../sys/unix-socket.ts';
import { Command, encodeMessage, encodeRegionAccess } from './messages.ts';

const FLOOD = 1500;
/** A register of config space that keeps any value: the interrupt line. */
const LINE = 0x3cn;

/** 10 us pass between two looks. */
class SteppingClock extends ManualClock {
  #looks = 0;

  override nowNs(): number {
    return super.nowNs() + ++this.#looks * 10_000;
  }
}

const rigOf = () => new ServerRig({ server: { clock: new SteppingClock() } });

async function connect(rig: ServerRig) {
  const [ours, theirs] = UnixSocket.pair();
  const session = rig.server.serve(ours);
  const client = new RawClient(theirs);
  await client.hello();
  return { client, session };
}

/** Posted writes of 0, 1, 2, … to the interrupt line. */
function flood(): Uint8Array {
  const messages = Array.from({ length: FLOOD }, (_, i) =>
    encodeMessage(1, Command.REGION_WRITE, encodeRegionAccess(LINE, 7, 1, Uint8Array.of(i)), HeaderFlags.NO_REPLY),
  );
  return new Uint8Array(Buffer.concat(messages));
}

describe('a client that floods', () => {
  it('does not keep a neighbour of its thread waiting until it is through', async () => {
    using rig = rigOf();
    using other = rigOf();
    const busy = await connect(rig);
    const neighbour = await connect(other);
    busy.client.raw(flood());
    const id = neighbour.client.send(Command.REGION_READ, encodeRegionAccess(0n, 7, 4));
    while (neighbour.session.commands < 2) await new Promise(setImmediate);
    expect(busy.session.commands).toBeLessThan(FLOOD);
    expect((await neighbour.client.next()).id).toBe(id);
    busy.client[Symbol.dispose]();
    neighbour.client[Symbol.dispose]();
  });

  it('has all of it done in order, also what came behind, and a read last', async () => {
    using rig = rigOf();
    using other = rigOf();
    const busy = await connect(rig);
    const neighbour = await connect(other);
    for (let round = 1; round <= 3; round++) {
      busy.client.raw(flood());
      neighbour.client.send(Command.REGION_READ, encodeRegionAccess(0n, 7, 4));
      const { payload } = await busy.client.request(Command.REGION_READ, encodeRegionAccess(LINE, 7, 1));
      expect([payload[16], busy.session.commands]).toEqual([(FLOOD - 1) & 0xff, 1 + round * (FLOOD + 1)]);
    }
    busy.client[Symbol.dispose]();
    neighbour.client[Symbol.dispose]();
  });

  it('ends in the middle of it like any other, and its device is free again', async () => {
    using rig = rigOf();
    using other = rigOf();
    const neighbour = await connect(other);
    const busy = await connect(rig);
    busy.client.raw(flood());
    neighbour.client.send(Command.REGION_READ, encodeRegionAccess(0n, 7, 4));
    while (busy.session.commands < 2) await new Promise(setImmediate);
    busy.session.close();
    const { commands } = busy.session;
    await neighbour.client.next();
    expect([busy.session.commands, rig.opened[0]!.closed]).toEqual([commands, true]);
    busy.client[Symbol.dispose]();
    neighbour.client[Symbol.dispose]();
  });
});
