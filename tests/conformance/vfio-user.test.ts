/**
 * The conformance cases over a socket: our client, and our server in another process with the
 * engine behind it.
 */
import { afterAll, beforeAll, expect, it } from 'vitest';
import { EventFd } from '../../src/sys/eventfd.ts';
import { VfioUserDevice } from '../../src/vfio-user/client.ts';
import { MachineProcess } from '../kit/machine-process.ts';
import { ServerProcess } from '../kit/server-process.ts';
import { PF, TOKEN, VF1 } from '../kit/sriov-rig.ts';
import { tokenMachine } from '../kit/token-doors.ts';
import { Answers, differences } from './answers.ts';
import { deviceConformance } from './device-conformance.ts';
import { byGroup, real } from './engine-subject.ts';
import { unexplained } from './known-differences.ts';
import type { ConformanceSubject } from './subject.ts';

/**
 * Each turn lets the model's next step and its effects happen, unless the machine has much other
 * work; edu needs no more turns.
 */
const TURNS = 10;
const TIMEOUT_MS = 120_000;

const turn = () => new Promise<void>((resolve) => setTimeout(() => setImmediate(resolve), 2));

let server: ServerProcess;
let machine: MachineProcess;
beforeAll(async () => {
  [server, machine] = await Promise.all([ServerProcess.start(), MachineProcess.start(tokenMachine)]);
});
afterAll(() => Promise.all([server[Symbol.asyncDispose](), machine[Symbol.asyncDispose]()]));

async function subject(twinSocket: boolean): Promise<ConformanceSubject> {
  await server.fresh();
  return subjectOf(() => VfioUserDevice.connect(server.path, { timeoutMs: TIMEOUT_MS, twinSocket }), false);
}

/** The second VF of the PF of `tokenMachine`, whose driver has set the token and closed the PF. */
async function virtualFunction(): Promise<ConformanceSubject> {
  await machine.ask({ ask: 'fresh' });
  const connect = (bdf: string) => VfioUserDevice.connect(machine.pathOf(bdf), { timeoutMs: TIMEOUT_MS, token: TOKEN });
  connect(PF).close();
  return subjectOf(() => connect(VF1), true);
}

function subjectOf(connect: () => VfioUserDevice, virtual: boolean): ConformanceSubject {
  const device = connect();
  return {
    device,
    virtual,
    remote: true,
    eventfd: () => EventFd.create(),
    reopen: connect,
    async until(done) {
      while (!done()) await turn();
      return true;
    },
    async pass() {
      for (let i = 0; i < TURNS; i++) await turn();
    },
    async [Symbol.asyncDispose]() {
      device.close();
    },
  };
}

const answers = new Answers();
const engine = new Answers();
deviceConformance(
  'vfio-user, one socket',
  answers.of(() => subject(false)),
);
deviceConformance(
  'the engine, for the same answers',
  engine.of(() => byGroup(real())),
);
it('a socket gives the answers of the engine, call by call', () => {
  expect(unexplained('socket', differences(engine.cases, answers.cases))).toEqual([]);
});
deviceConformance('vfio-user, with a twin socket', () => subject(true));
deviceConformance('vfio-user, a virtual function', () => virtualFunction());
