/**
 * The code of a thread: it does the work that its `ThreadData` says, until the other side stops it.
 */
import { parentPort, workerData } from 'node:worker_threads';
import { Cleanup } from '../../base/cleanup.ts';
import { sliceOf, unitsOf } from '../../engine/machine/units.ts';
import { EventStream } from '../../events/stream.ts';
import type { AdminDesk, AdminRequest } from '../admin/desk.ts';
import { surviveForeignCode } from '../foreign-context.ts';
import type { MachineDocument } from '../machine-document.ts';
import { importMachineOf } from '../machine-of-spec.ts';
import { modelsOn } from '../models-of-computer.ts';
import { PeerProcesses } from '../peer-processes.ts';
import { Wires } from '../wires.ts';
import { EventSender } from './event-relay.ts';
import type { Plan, ServedSocket, Share, Survey, ThreadData } from './jobs.ts';
import { type Part, startPart } from './parts.ts';
import { type PowerOnNumbers, SharedTable } from './shared-table.ts';
import { sendOutput } from './thread-output.ts';
import { ThreadPort } from './thread-port.ts';

const data = workerData as ThreadData;
const table = new SharedTable(data.table);
const owns = new Cleanup();
let part: Part | null = null;
let sender: Disposable | null = null;

const atPowerOn: PowerOnNumbers = data.work.kind === 'machine' ? data.work.atPowerOn : { groups: {}, vfioDevices: {} };
const numbers = table.numbers(data.thread, atPowerOn);
const events = owns.use(
  new EventStream({ containers: numbers.containers, log: { log: (level, text) => port.tell('log', { level, text }) } }),
);

const port: ThreadPort = new ThreadPort(parentPort!, {
  asked: {
    begin,
    ping: () => null,
    status: () => part!.desk!.status(),
    carryOut: (request: AdminRequest, progress: (text: string) => Promise<void>) => part!.desk!.carryOut(request, progress),
    stop,
  },
  told: { watch },
});

sendOutput(new Int32Array(data.printed), (piece) => port.tell('output', piece));

/** Administration goes to the starting thread, which knows who has which function. */
const desk: AdminDesk = {
  status: () => port.ask<MachineDocument>('status', null),
  carryOut: (request, progress) => port.ask('carryOut', request, (text) => void progress(text)),
};

async function begin(): Promise<Plan | readonly ServedSocket[]> {
  const { work, events: wanted } = data;
  if (work.kind === 'survey') return await survey(work);
  owns.use(surviveForeignCode(events));
  watch(wanted);
  const { memlockLimit } = work;
  part = await startPart(work, {
    events,
    processes: new PeerProcesses(memlockLimit, (key, before) => table.account(data.thread, key, before)),
    numbers,
    desk,
    report: (line) => port.tell('report', line),
    changed: (functions) => port.tell('functions', functions),
  });
  return part.sockets;
}

/** The machine is there for a moment, without a socket. */
async function survey({ file, threads }: Survey): Promise<Plan> {
  // A thread that serves reads no file.
  const { readMachineFile } = await import('../machine-file.ts');
  const spec = readMachineFile(file);
  using machine = await importMachineOf(file, spec, { models: modelsOn(new Wires({ planned: true })) });
  const functions = [...machine.functions.values()];
  // A function without a model does nothing, and needs no thread of its own.
  const acts = (bdf: string) => machine.function(bdf).deviceModel !== null || machine.function(bdf).physical !== null;
  const units = unitsOf(machine);
  const [active, idle] = [units.filter((unit) => unit.some(acts)), units.filter((unit) => !unit.some(acts)).flat()];
  const shares = Math.min(active.length, threads);
  const share = (number: number): Share => {
    const own = [...active.flatMap((unit, i) => (i % shares === number ? unit : [])), ...(number === 0 ? idle : [])];
    return { functions: own, ...sliceOf(spec, machine, new Set(own)) };
  };
  return {
    name: machine.name,
    shares: Array.from({ length: shares }, (_, number) => share(number)),
    bridges: sliceOf(spec, machine, new Set()),
    atPowerOn: {
      groups: Object.fromEntries(functions.flatMap(({ bdf, group }) => (group === null ? [] : [[bdf, group.id]]))),
      vfioDevices: Object.fromEntries(functions.flatMap(({ bdf, vfioIndex }) => (vfioIndex === null ? [] : [[bdf, vfioIndex]]))),
    },
  };
}

function watch({ on, data: wantsData }: ThreadData['events']): void {
  sender?.[Symbol.dispose]();
  sender = on ? new EventSender(events, wantsData, new Int32Array(data.taken), (batch) => port.tell('events', batch)) : null;
}

function stop(): null {
  using undo = owns.move();
  undo.defer(() => sender?.[Symbol.dispose]());
  if (part !== null) undo.use(part);
  // The answer is sent first. Timers of models would keep the thread.
  setImmediate(() => process.exit(0));
  return null;
}
