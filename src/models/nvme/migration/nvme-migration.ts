/**
 * Moves an NVMe controller while it works (B.11). It stops within one call: it waits for operations
 * of its storages and reports them to the host. Commands that wait for remote memory, or for a
 * limit, begin again, at the source or at the target. No command is lost, and no command that has
 * completed is executed again.
 */
import type { ModelBulk, ModelMigration, ModelPeerToPeer } from '../../../abi/device-host.ts';
import { VfioError } from '../../../base/errno.ts';
import type { Command } from '../command.ts';
import type { ControllerParts } from '../controller-parts.ts';
import { type KeptCommands, loadController, saveController, shapeOf } from './controller-state.ts';
import { canBeMoved, DiskBulk } from './disk-bulk.ts';
import { readState } from './read-state.ts';
import { STATE_VERSION } from './saved-state.ts';

/** Calls that only the controller can answer. */
export interface ControllerLife {
  /**
   * Settles when DMA to remote memory has landed, that from before a reset included. Null: no DMA
   * is in flight.
   */
  quiet(): Promise<unknown> | null;
  /** A shutdown that is under way flushes the disk. */
  flushAgain(): void;
}

const NONE: KeptCommands = { again: [], limited: [], admin: [] };

export class NvmeMigration implements ModelMigration {
  readonly version = STATE_VERSION;
  readonly stateSize = 16 * 1024;
  readonly bulk?: ModelBulk;
  readonly p2p: ModelPeerToPeer = { enter: () => this.#set('quiet', true), leave: () => this.#set('quiet', false) };
  readonly #parts: ControllerParts;
  readonly #life: ControllerLife;
  /** The requesters of the halt: nothing moves while either is set. */
  readonly #reasons = { stopped: false, quiet: false };
  #halted = false;
  #kept: KeptCommands = NONE;

  /** Null: it cannot be moved, because what it writes would stay behind in a file. */
  static of(parts: ControllerParts, life: ControllerLife): NvmeMigration | null {
    return canBeMoved(parts.namespaces.list.map(({ storage }) => storage)) ? new NvmeMigration(parts, life) : null;
  }

  private constructor(parts: ControllerParts, life: ControllerLife) {
    this.#parts = parts;
    this.#life = life;
    const bulk = new DiskBulk(parts.namespaces.list.map(({ storage }) => storage));
    if (bulk.size > 0) this.bulk = bulk;
  }

  stop(): void {
    this.#set('stopped', true);
    // Another device can have rung since the halt.
    this.#parts.mapped?.look(true);
  }

  start(): void {
    this.#set('stopped', false);
  }

  /** The controller was reset, shut down, or has failed: there is nothing to go on with. */
  forget(): void {
    this.#kept = NONE;
  }

  /** @throws VfioError EAGAIN while something that was sent to remote memory has not landed */
  save(): Uint8Array {
    if (this.#life.quiet() !== null || this.#parts.queues.completions.posting) {
      throw new VfioError('EAGAIN', 'an NVMe controller cannot be saved yet: something that it sent to memory has not landed');
    }
    return saveController(this.#parts, this.#kept);
  }

  load(bytes: Uint8Array, version: number): void {
    if (version !== STATE_VERSION)
      throw new VfioError('EINVAL', `the state of an NVMe controller has version ${version}, not ${STATE_VERSION}`);
    const state = readState(bytes, shapeOf(this.#parts));
    this.#kept = loadController(this.#parts, state);
  }

  #set(reason: 'stopped' | 'quiet', value: boolean): void {
    this.#reasons[reason] = value;
    if (this.#wanted && !this.#halted) this.#halt();
    else if (!this.#wanted && this.#halted) this.#goOn();
  }

  get #wanted(): boolean {
    return this.#reasons.stopped || this.#reasons.quiet;
  }

  #halt(): void {
    const { queues, io, admin, namespaces, interrupts, keepAlive, events, mapped } = this.#parts;
    this.#halted = true;
    queues.halt();
    mapped?.look(true);
    mapped?.update();
    io.settle();
    const { again, limited } = io.suspend();
    for (const namespace of namespaces.list) namespace.finishFormat();
    admin.suspend();
    queues.settle();
    interrupts.pause();
    keepAlive.pause();
    const elsewhere = new Set<Command>(events.state.requests);
    for (const cq of queues.cq) {
      for (const command of cq?.sent ?? []) elsewhere.add(command);
      for (let command = cq?.first ?? null; command !== null; command = command.next) elsewhere.add(command);
    }
    for (const sq of queues.sq) if (sq?.deleting) elsewhere.add(sq.deleting);
    const waiting = queues.underWay().filter(({ queueId }) => queueId === 0);
    // The Flush of a shutdown belongs to no queue, so it begins again.
    this.#kept = { again: again.filter(({ slot }) => slot >= 0), limited, admin: waiting.filter((command) => !elsewhere.has(command)) };
  }

  #goOn(): void {
    const { queues, io, admin, interrupts, keepAlive } = this.#parts;
    // Earlier data must not land over data that is sent now.
    const landing = this.#life.quiet();
    if (landing !== null) {
      void landing.then(() => {
        if (this.#halted && !this.#wanted) this.#goOn();
      });
      return;
    }
    this.#halted = false;
    const kept = this.#kept;
    this.#kept = NONE;
    interrupts.goOn();
    keepAlive.goOn();
    queues.goOn(() => {
      const { life } = queues;
      for (const command of kept.admin) if (queues.life === life) admin.start(command);
      if (queues.life === life) io.resume(kept);
    });
    this.#parts.mapped?.update();
    this.#life.flushAgain();
  }
}
