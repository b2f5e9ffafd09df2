/** Between a controller that stands still and the plain data that it is moved as. */
import { NvmeReg } from '../../../abi/nvme.ts';
import { encodePlain } from '../../kit/plain-data.ts';
import type { Command } from '../command.ts';
import { CompletionQueue } from '../completion-queue.ts';
import type { ControllerParts } from '../controller-parts.ts';
import { HEALTH_COUNTS } from '../health.ts';
import { IO_COUNTERS } from '../io-counters.ts';
import type { LimitedCommand } from '../limiter.ts';
import type { SuspendedCommands } from '../nvm-commands.ts';
import { iovaOf } from '../pieces.ts';
import { SubmissionQueue } from '../submission-queue.ts';
import { type ControllerShape, SAVED_REGISTERS, type SavedCommand, type SavedState, Standing } from './saved-state.ts';

/** Commands that the controller keeps while it stands still. */
export interface KeptCommands extends SuspendedCommands {
  readonly admin: readonly Command[];
}

export function shapeOf({ options, namespaces }: ControllerParts): ControllerShape {
  const { ioQueues, entries, identity } = options;
  return {
    ioQueues,
    entries,
    mdts: identity.mdts,
    namespaces: namespaces.list.map(({ storage }) => ({
      size: storage.size,
      readOnly: storage.readOnly,
      volatile: storage.volatile,
      sent: storage.bulk !== undefined,
    })),
  };
}

/** @param kept  commands that wait for it to go on */
export function saveController(parts: ControllerParts, kept: KeptCommands): Uint8Array {
  const { registers, features, events, interrupts, queues, errors, changed, keepAlive, namespaces } = parts;
  const { serial, model, firmware, nqn } = parts.options.identity;
  const shape = shapeOf(parts);
  const { current, saved, thresholds, queues: given, uncoalesced, stamp, stampByHost } = features.state;
  return encodePlain({
    identity: { serial, model, firmware, nqn },
    limits: { ioQueues: shape.ioQueues, entries: shape.entries, mdts: shape.mdts },
    namespaces: namespaces.list.map(({ blockShift, nguid, eui64 }, i) => {
      const ahead = parts.io.limiters[i]?.ahead;
      return {
        ...shape.namespaces[i],
        blockShift,
        has_nguid: nguid !== null,
        nguid: nguid ?? new Uint8Array(0),
        has_eui64: eui64 !== null,
        eui64: eui64 ?? new Uint8Array(0),
        ahead: ahead === undefined ? null : { commands: Float64Array.of(ahead[0]), bytes: Float64Array.of(ahead[1]) },
      };
    }),
    registers: Uint32Array.from([...SAVED_REGISTERS.map((register) => registers.get(register)), interrupts.mask]),
    running: queues.running,
    features: {
      current,
      saved,
      over: thresholds[0],
      under: thresholds[1],
      submissionQueues: given[0],
      completionQueues: given[1],
      uncoalesced,
      stamp,
      stampByHost,
    },
    health: saveHealth(parts),
    errors: { count: errors.count, entries: errors.entries },
    events: { pending: Float64Array.from(events.state.pending), masked: events.state.masked },
    changed: Float64Array.from(new Set([...namespaces.changed, ...changed])),
    keepAliveLeftMs: Float64Array.of(keepAlive.leftMs),
    shadow: saveShadow(parts),
    completionQueues: queues.cq.flatMap((cq) => (cq === null ? [] : [saveCompletionQueue(cq)])),
    submissionQueues: queues.sq.flatMap((sq) =>
      sq === null ? [] : [{ id: sq.id, iova: BigInt(sq.ring.iova), size: sq.size, cq: sq.cq.id, head: sq.head, tail: sq.tail }],
    ),
    commands: saveCommands(parts, kept),
    interrupts: interrupts.standing,
  });
}

/** The history of this disk, the controller that is there now included. */
function saveHealth({ options, io, poweredNs, effects }: ControllerParts): unknown {
  const { health } = options;
  const past = [...health.past];
  IO_COUNTERS.forEach((name, i) => {
    past[i]! += io.counters[name];
  });
  past[HEALTH_COUNTS.length]! += poweredNs;
  const { powerCycles, unsafeShutdowns, temperature } = health;
  return { past: Float64Array.from(past), powerCycles, unsafeShutdowns, temperature, warnings: effects.warnings };
}

function saveShadow({ shadow }: ControllerParts): unknown {
  const { buffers } = shadow;
  return buffers === null ? null : { values: BigInt(buffers.values), events: BigInt(buffers.events) };
}

function saveCompletionQueue({ id, ring, size, vector, interrupts, head, tail, phase, fresh }: CompletionQueue): unknown {
  return { id, iova: BigInt(ring.iova), size, vector, interrupts, head, tail, phase, fresh };
}

function saveCommands({ queues, events }: ControllerParts, { again, limited, admin }: KeptCommands): SavedCommand[] {
  const saved: SavedCommand[] = [];
  const add = ({ queueId: queue, dw, status, result }: Command, standing: Standing, leftNs = 0, deletes = 0) => {
    const ended = standing === Standing.ENDED;
    const command = { queue, standing, dw, status: ended ? status : 0, result: ended ? result >>> 0 : 0, deletes };
    saved.push({ ...command, leftNs: Float64Array.of(leftNs) } as unknown as SavedCommand);
  };
  for (const command of events.state.requests) add(command, Standing.EVENT);
  for (const cq of queues.cq) for (let command = cq?.first ?? null; command !== null; command = command.next) add(command, Standing.ENDED);
  for (const { command, leftNs } of limited) add(command, Standing.LIMITED, leftNs);
  for (const command of [...again, ...admin]) add(command, Standing.AGAIN);
  for (const sq of queues.sq) if (sq?.deleting) add(sq.deleting, Standing.DELETING, 0, sq.id);
  return saved;
}

/**
 * Sets a controller that is reset and stopped to `state`. Returns the commands to execute when it
 * runs.
 */
export function loadController(parts: ControllerParts, state: SavedState): KeptCommands {
  const { registers, interrupts, effects, features, events, keepAlive, shadow, queues } = parts;
  loadDisk(parts, state);
  SAVED_REGISTERS.forEach((register, i) => {
    registers.set(register, state.registers[i]!);
  });
  interrupts.mask = state.registers[SAVED_REGISTERS.length]!;
  registers.set(NvmeReg.INTMS, interrupts.mask);
  registers.set(NvmeReg.INTMC, interrupts.mask);
  parts.setPageSize();
  features.state = state.features;
  loadQueues(parts, state);
  if (state.running) queues.start();
  if (state.shadow !== null) shadow.take(addressOf(state.shadow.values), addressOf(state.shadow.events), 2 * queues.sq.length);
  const { kept, requests } = loadCommands(parts, state.commands);
  // Setting features may have posted an event or restarted the timer, so the saved values are set
  // last.
  events.state = { requests, pending: [...state.events.pending], masked: state.events.masked };
  effects.warnings = state.health.warnings;
  keepAlive.leftMs = state.keepAliveLeftMs;
  const { held, leftNs, unsent } = interrupts.standing;
  held.set(state.interrupts.held);
  leftNs.set(state.interrupts.leftNs);
  unsent.set(state.interrupts.unsent);
  return kept;
}

/**
 * State that outlives the controller: the disk's identity, its health, and the formats of its
 * namespaces.
 */
function loadDisk(parts: ControllerParts, state: SavedState): void {
  const { namespaces, io, errors, changed } = parts;
  const { identity, health, namespaces: options } = parts.options;
  Object.assign(identity, state.identity);
  state.namespaces.forEach(({ blockShift, nguid, eui64, ahead }, i) => {
    const namespace = namespaces.list[i]!;
    namespace.takeFormat(blockShift);
    namespace.nguid = nguid.length === 0 ? null : nguid;
    namespace.eui64 = eui64.length === 0 ? null : eui64;
    Object.assign(options[i]!, { nguid: namespace.nguid ?? undefined, eui64: namespace.eui64 ?? undefined });
    const limiter = io.limiters[i];
    if (limiter && ahead !== null) limiter.ahead = [ahead.commands, ahead.bytes];
  });
  changed.clear();
  for (const nsid of state.changed) changed.add(nsid);
  health.past = [...state.health.past];
  health.powerCycles = state.health.powerCycles;
  health.unsafeShutdowns = state.health.unsafeShutdowns;
  health.temperature = state.health.temperature;
  io.clearCounters();
  parts.poweredNs = 0;
  errors.count = state.errors.count;
  errors.entries = state.errors.entries;
}

function loadQueues({ queues, dma }: ControllerParts, { completionQueues, submissionQueues }: SavedState): void {
  for (const { id, iova, size, vector, interrupts, head, tail, phase, fresh } of completionQueues) {
    queues.createCq(Object.assign(new CompletionQueue(dma, id, addressOf(iova), size, vector, interrupts), { head, tail, phase, fresh }));
  }
  for (const { id, iova, size, cq, head, tail } of submissionQueues) {
    queues.createSq(Object.assign(new SubmissionQueue(dma, id, addressOf(iova), size, queues.cq[cq]!), { head, tail }));
  }
}

function loadCommands({ queues, io }: ControllerParts, commands: readonly SavedCommand[]): { kept: KeptCommands; requests: Command[] } {
  const requests: Command[] = [];
  const again: Command[] = [];
  const admin: Command[] = [];
  const limited: LimitedCommand[] = [];
  for (const { queue, standing, dw, status, result, leftNs, deletes } of commands) {
    const sq = queues.sq[queue]!;
    const command = queues.take(sq, dw);
    switch (standing) {
      case Standing.EVENT:
        requests.push(command);
        break;
      case Standing.ENDED:
        command.status = status;
        command.result = result;
        sq.cq.wait(command);
        break;
      case Standing.LIMITED:
        // The target's namespace may have no limits.
        if (io.limiters[command.nsid - 1]) limited.push({ command, leftNs });
        else again.push(command);
        break;
      case Standing.DELETING:
        queues.sq[deletes]!.deleting = command;
        break;
      default:
        (queue === 0 ? admin : again).push(command);
    }
  }
  return { kept: { again, limited, admin }, requests };
}

function addressOf(iova: bigint) {
  return iovaOf(Number(iova & 0xffff_ffffn), Number(iova >> 32n));
}
