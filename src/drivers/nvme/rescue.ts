/**
 * The rescue of commands that take too long. The driver polls for completions that it missed, then
 * aborts the commands, and at last resets the controller. It does so at ticks of the watchdog.
 */
import { VfioError } from '../../base/errno.ts';
import type { LogLevel } from '../../base/log.ts';
import type { AdminCommands } from './admin.ts';
import type { Controller } from './controller.ts';
import type { ControllerInfo } from './controller-info.ts';
import type { EventListeners, SessionState } from './events.ts';
import type { QueuePair } from './queue-pair.ts';
import type { Watchdog } from './watchdog.ts';

/** The part of the session that a rescue needs. */
export interface RescuedController {
  readonly deviceName: string;
  readonly state: SessionState;
  /** Whether a command is in flight or waits. */
  readonly active: boolean;
  readonly tick: number;
  readonly options: { readonly timeoutMs: number };
  readonly info: Pick<ControllerInfo, 'aborts'>;
  readonly controller: Pick<Controller, 'fatal'>;
  readonly watchdog: Pick<Watchdog, 'wake'>;
  readonly admin: Pick<AdminCommands, 'abort'>;
  readonly adminQueue: QueuePair;
  readonly queues: readonly QueuePair[];
  readonly listeners: Pick<EventListeners, 'emit'>;
  log(level: LogLevel, message: string): void;
  recover(reason: string): Promise<void>;
  lost(error: unknown): void;
}

export class Rescue {
  readonly #session: RescuedController;
  /** Number of aborts that the controller holds. */
  #aborts = 0;

  constructor(session: RescuedController) {
    this.#session = session;
  }

  look(): void {
    const session = this.#session;
    if (!session.active) return;
    session.watchdog.wake();
    if (session.state === 'gone' || session.state === 'closed' || session.state === 'failed') return;
    try {
      if (session.state === 'live' && session.controller.fatal) {
        void session.recover('Controller Fatal Status');
        return;
      }
      for (const queue of [session.adminQueue, ...session.queues]) this.#lookAt(queue);
    } catch (error) {
      session.lost(error);
    }
  }

  #lookAt(queue: QueuePair): void {
    const session = this.#session;
    if (queue.overdue(session.tick) < 0) return;
    if (queue.ready) {
      const commands = queue.poll();
      session.log('warn', `${session.deviceName}: ${commands} commands of queue ${queue.id} had completed without an interrupt`);
      session.listeners.emit({ kind: 'lost-interrupt', queue: queue.id, commands });
    }
    queue.ringAgain();
    for (let slot = queue.overdue(session.tick); slot >= 0; slot = queue.overdue(session.tick, slot + 1)) {
      if (!this.#late(queue, slot)) return;
    }
  }

  /** @returns false when the queue needs no more work */
  #late(queue: QueuePair, slot: number): boolean {
    const session = this.#session;
    const within = `within ${session.options.timeoutMs} ms`;
    if (session.state !== 'live') {
      // The controller may reach the data of I/O commands until it is disabled. Their end is
      // reported after that.
      if (queue.id !== 0) return false;
      // The code that enables or shuts down the controller handles the failure.
      queue.close(new VfioError('ETIMEDOUT', `${session.deviceName} did not complete an admin command ${within}`), true);
      return false;
    }
    if (queue.id === 0) {
      void session.recover(`an admin command did not complete ${within}`);
      return false;
    }
    if (this.#aborts >= session.info.aborts) return false;
    if (!queue.remind(slot, session.tick)) {
      void session.recover(`a command of queue ${queue.id} did not complete ${within}, and could not be aborted`);
      return false;
    }
    const commandId = queue.commandId(slot);
    session.log(
      'warn',
      `${session.deviceName}: command 0x${commandId.toString(16)} of queue ${queue.id} did not complete ${within}: it is aborted`,
    );
    session.listeners.emit({ kind: 'abort', queue: queue.id, commandId });
    this.#aborts++;
    const ended = () => void this.#aborts--;
    // The command's own completion, or its absence, shows whether it was aborted.
    session.admin.abort(queue.id, commandId).then(ended, ended);
    return true;
  }
}
