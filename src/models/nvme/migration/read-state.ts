/**
 * Reads saved state. Refuses unknown fields, and values that a controller like this one cannot
 * have.
 */
import { ADMIN_QUEUE_MAX, AdminOpcode, NvmeReg, SQE_SIZE } from '../../../abi/nvme.ts';
import { decodePlain } from '../../kit/plain-data.ts';
import { type FeatureState, isFeatureKey } from '../admin/features.ts';
import { EVENT_REQUESTS, PENDING_MAX } from '../async-events.ts';
import { ERROR_LOG_BYTES } from '../error-log.ts';
import { HEALTH_COUNTS } from '../health.ts';
import { ascii } from '../identity.ts';
import { NAMESPACES_MAX } from '../namespaces.ts';
import { CC_MASK, CFS, EN, NSSRO, RDY, Registers, SHST } from '../registers.ts';
import { Fields, wrong } from './fields.ts';
import {
  type ControllerShape,
  SAVED_REGISTERS,
  type SavedCommand,
  type SavedCompletionQueue,
  type SavedNamespace,
  type SavedState,
  type SavedSubmissionQueue,
  Standing,
} from './saved-state.ts';

const U16 = 0xffff;
const U32 = 0xffff_ffff;
const MAX = Number.MAX_SAFE_INTEGER;
/** Commands under way at most: I/O, and what fits into the admin queues besides. */
const COMMANDS_MAX = 3 * ADMIN_QUEUE_MAX;
/** Longest wait: 2^31 ms. */
const LEFT_NS_MAX = 2 ** 31 * 1e6;
const CSTS_MASK = RDY | CFS | SHST | NSSRO;

/** @throws VfioError EINVAL naming in what the two controllers differ, or what cannot be */
export function readState(bytes: Uint8Array, shape: ControllerShape): SavedState {
  const all = new Fields(decodePlain(bytes));
  const limits = readLimits(all.child('limits'));
  const namespaces = all.list('namespaces', NAMESPACES_MAX).map(readNamespace);
  checkShape({ ...limits, namespaces }, shape);
  const vectors = shape.ioQueues + 1;
  const completionQueues = all.list('completionQueues', vectors).map((each) => readCompletionQueue(each, shape));
  const submissionQueues = all.list('submissionQueues', vectors).map((each) => readSubmissionQueue(each, shape));
  const state: SavedState = {
    identity: readIdentity(all.child('identity')),
    limits,
    namespaces,
    registers: all.dwords('registers', SAVED_REGISTERS.length + 1),
    running: all.flag('running'),
    features: readFeatures(all.child('features'), shape),
    health: readHealth(all.child('health')),
    errors: readErrors(all.child('errors')),
    events: readEvents(all.child('events')),
    changed: all.integers('changed', namespaces.length, namespaces.length),
    keepAliveLeftMs: all.numbers('keepAliveLeftMs', 1, 2 ** 31, 0, 1)[0]!,
    shadow: readShadow(all.optional('shadow')),
    completionQueues,
    submissionQueues,
    commands: all.list('commands', COMMANDS_MAX).map(readCommand),
    interrupts: readInterrupts(all.child('interrupts'), vectors),
  };
  all.end();
  checkQueues(state);
  checkCommands(state);
  checkRegisters(state, shape.entries);
  return state;
}

function readLimits(of: Fields): SavedState['limits'] {
  const limits = { ioQueues: of.integer('ioQueues', U16, 1), entries: of.integer('entries', U16 + 1, 2), mdts: of.integer('mdts', 31) };
  of.end();
  return limits;
}

function readNamespace(of: Fields): SavedNamespace {
  const ahead = of.optional('ahead');
  const namespace = {
    size: of.integer('size', MAX, 1),
    readOnly: of.flag('readOnly'),
    volatile: of.flag('volatile'),
    sent: of.flag('sent'),
    blockShift: of.integer('blockShift', 12, 9),
    nguid: identifier(of, 'nguid', 16),
    eui64: identifier(of, 'eui64', 8),
    ahead: ahead === null ? null : { commands: aheadOf(ahead, 'commands'), bytes: aheadOf(ahead, 'bytes') },
  };
  ahead?.end();
  of.end();
  return namespace;
}

function aheadOf(of: Fields, name: string): number {
  return of.numbers(name, 1, LEFT_NS_MAX, -LEFT_NS_MAX, 1)[0]!;
}

function identifier(of: Fields, name: string, size: number): Uint8Array {
  return of.flag(`has_${name}`) ? of.bytes(name, size) : of.bytes(name, 0);
}

/** @throws VfioError EINVAL naming the first difference */
function checkShape(theirs: ControllerShape, ours: ControllerShape): void {
  for (const [name, what] of [
    ['ioQueues', 'I/O queues'],
    ['entries', 'entries in a queue'],
    ['mdts', 'MDTS'],
  ] as const) {
    if (theirs[name] !== ours[name]) throw wrong(`${what}: it has ${theirs[name]}, this controller ${ours[name]}`);
  }
  if (theirs.namespaces.length !== ours.namespaces.length) {
    throw wrong(`it has ${theirs.namespaces.length} namespaces, this controller ${ours.namespaces.length}`);
  }
  ours.namespaces.forEach((own, i) => {
    const their = theirs.namespaces[i]!;
    const nsid = `namespace ${i + 1}`;
    if (their.size !== own.size) throw wrong(`${nsid} has ${their.size} bytes, here it has ${own.size}`);
    if (their.readOnly !== own.readOnly) throw wrong(`${nsid} is ${their.readOnly ? 'read-only' : 'written to'}, and not so here`);
    if (their.volatile !== own.volatile) throw wrong(`${nsid} has ${their.volatile ? 'a' : 'no'} volatile write cache, unlike here`);
    if (their.sent !== own.sent)
      throw wrong(`the contents of ${nsid} ${their.sent ? 'are sent, and are in a file' : 'are in a file, and are in memory'} here`);
  });
}

function readIdentity(of: Fields): SavedState['identity'] {
  const identity = {
    serial: ascii(of.text('serial'), 20, 'serial'),
    model: ascii(of.text('model'), 40, 'model'),
    firmware: ascii(of.text('firmware'), 8, 'firmware'),
    nqn: ascii(of.text('nqn'), 223, 'nqn'),
  };
  of.end();
  return identity;
}

function readFeatures(of: Fields, { ioQueues, namespaces }: ControllerShape): FeatureState {
  const values = (name: string, saved: boolean) => {
    const pairs = of.integers(name, 2 * 0x200 * (namespaces.length + 1), U32);
    if (pairs.length % 2 !== 0) throw wrong(`features.${name} has a key without value`);
    for (let i = 0; i < pairs.length; i += 2)
      if (!isFeatureKey(pairs[i]!, namespaces.length, saved)) throw wrong(`features.${name} has a value of feature ${pairs[i]}`);
    return pairs;
  };
  const state: FeatureState = {
    current: values('current', false),
    saved: values('saved', true),
    thresholds: [of.integer('over', U16), of.integer('under', U16)],
    queues: [of.integer('submissionQueues', ioQueues, 1), of.integer('completionQueues', ioQueues, 1)],
    uncoalesced: flags(of, 'uncoalesced', ioQueues + 1),
    stamp: of.integer('stamp', MAX),
    stampByHost: of.flag('stampByHost'),
  };
  of.end();
  return state;
}

function flags(of: Fields, name: string, count: number): Uint8Array {
  const bytes = of.bytes(name, count);
  if (bytes.some((byte) => byte > 1)) throw wrong(`${name} has something that is neither 0 nor 1`);
  return bytes;
}

function readHealth(of: Fields): SavedState['health'] {
  const health = {
    past: of.numbers('past', HEALTH_COUNTS.length + 1, MAX, 0, HEALTH_COUNTS.length + 1),
    powerCycles: of.integer('powerCycles', MAX),
    unsafeShutdowns: of.integer('unsafeShutdowns', MAX),
    temperature: of.integer('temperature', U16),
    warnings: of.integer('warnings', 0xff),
  };
  of.end();
  if (!health.past.subarray(0, HEALTH_COUNTS.length).every(Number.isInteger)) throw wrong('health.past counts in fractions');
  return health;
}

function readErrors(of: Fields): SavedState['errors'] {
  const errors = { count: of.integer('count', MAX), entries: of.bytes('entries', ERROR_LOG_BYTES) };
  of.end();
  return errors;
}

function readEvents(of: Fields): SavedState['events'] {
  const events = { pending: of.integers('pending', PENDING_MAX, 0xff_ffff), masked: flags(of, 'masked', 8) };
  of.end();
  return events;
}

function readShadow(of: Fields | null): SavedState['shadow'] {
  if (of === null) return null;
  const shadow = { values: page(of, 'values'), events: page(of, 'events') };
  of.end();
  return shadow;
}

/** An address of what begins at a page. */
function page(of: Fields, name: string): bigint {
  const address = of.address(name);
  if ((address & 0xfffn) !== 0n) throw wrong(`${name} is not at a page`);
  return address;
}

function readRing(of: Fields, ioQueues: number, entries: number): Pick<SavedSubmissionQueue, 'id' | 'size' | 'iova'> {
  const id = of.integer('id', ioQueues);
  const size = of.integer('size', id === 0 ? ADMIN_QUEUE_MAX : entries, 2);
  return { id, size, iova: page(of, 'iova') };
}

function readCompletionQueue(of: Fields, { ioQueues, entries }: ControllerShape): SavedCompletionQueue {
  const { id, size, iova } = readRing(of, ioQueues, entries);
  const queue = {
    id,
    size,
    iova,
    vector: of.integer('vector', ioQueues),
    interrupts: of.flag('interrupts'),
    head: of.integer('head', size - 1),
    tail: of.integer('tail', size - 1),
    phase: of.integer('phase', 1),
    fresh: of.integer('fresh', size),
  };
  of.end();
  return queue;
}

function readSubmissionQueue(of: Fields, { ioQueues, entries }: ControllerShape): SavedSubmissionQueue {
  const { id, size, iova } = readRing(of, ioQueues, entries);
  const queue = {
    id,
    size,
    iova,
    cq: of.integer('cq', ioQueues),
    head: of.integer('head', size - 1),
    tail: of.integer('tail', size - 1),
  };
  of.end();
  return queue;
}

function readCommand(of: Fields): SavedCommand {
  const command = {
    queue: of.integer('queue', U16),
    standing: of.integer('standing', Standing.DELETING) as Standing,
    dw: of.dwords('dw', SQE_SIZE / 4),
    status: of.integer('status', 0x7fff),
    result: of.integer('result', U32),
    leftNs: of.numbers('leftNs', 1, LEFT_NS_MAX, 0, 1)[0]!,
    deletes: of.integer('deletes', U16),
  };
  of.end();
  return command;
}

function readInterrupts(of: Fields, vectors: number): SavedState['interrupts'] {
  const interrupts = {
    held: of.dwords('held', vectors),
    leftNs: of.numbers('leftNs', vectors, LEFT_NS_MAX, 0, vectors),
    unsent: flags(of, 'unsent', vectors),
  };
  of.end();
  return interrupts;
}

function checkQueues({ completionQueues, submissionQueues, running }: SavedState): void {
  const cqs = new Set(completionQueues.map(({ id }) => id));
  const sqs = new Set(submissionQueues.map(({ id }) => id));
  if (cqs.size !== completionQueues.length || sqs.size !== submissionQueues.length) throw wrong('it has a queue twice');
  for (const { id, cq } of submissionQueues) {
    if (!cqs.has(cq) || (id === 0) !== (cq === 0)) throw wrong(`submission queue ${id} completes in queue ${cq}`);
  }
  if (running && !(cqs.has(0) && sqs.has(0))) throw wrong('it works without an admin queue');
}

function checkCommands({ commands, submissionQueues, namespaces, running }: SavedState): void {
  const sqs = new Set(submissionQueues.map(({ id }) => id));
  const deleted = new Set<number>();
  let events = 0;
  if (!running && commands.length > 0) throw wrong('it does not work, and has commands');
  for (const { queue, standing, dw, deletes } of commands) {
    if (!sqs.has(queue)) throw wrong(`a command of submission queue ${queue}, which it has not`);
    switch (standing) {
      case Standing.EVENT:
        if (queue !== 0 || ++events > EVENT_REQUESTS) throw wrong('too many commands wait for events');
        break;
      case Standing.LIMITED:
        if (queue === 0 || dw[1]! === 0 || dw[1]! > namespaces.length) throw wrong(`a command waits for a limit of namespace ${dw[1]}`);
        break;
      case Standing.DELETING:
        if (queue !== 0 || (dw[0]! & 0xff) !== AdminOpcode.DELETE_SQ || deletes === 0 || !sqs.has(deletes) || deleted.has(deletes)) {
          throw wrong(`a command deletes submission queue ${deletes}`);
        }
        deleted.add(deletes);
        break;
    }
  }
}

function checkRegisters({ registers: values, running }: SavedState, entries: number): void {
  const registers = new Registers(entries);
  SAVED_REGISTERS.forEach((register, i) => {
    registers.set(register, values[i]!);
  });
  const cc = registers.get(NvmeReg.CC);
  const csts = registers.get(NvmeReg.CSTS);
  if ((cc & ~CC_MASK) !== 0 || (csts & ~CSTS_MASK) !== 0) throw wrong('CC or CSTS has bits that there are not');
  const ready = (csts & RDY) !== 0;
  if (running !== (ready && (csts & (CFS | SHST)) === 0)) throw wrong('CSTS does not say whether it works');
  if (!ready) return;
  if ((cc & EN) === 0) throw wrong('CSTS.RDY without CC.EN');
  const why = registers.whyNotEnabled();
  if (why !== null) throw wrong(why);
}
