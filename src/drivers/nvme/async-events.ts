/**
 * Asynchronous Event Requests (NVMe 1.4, 5.2): The driver keeps them armed. It answers each event
 * by reading the log that the event names, and reports it to listeners.
 */
import { AdminOpcode, EventError, EventNotice, EventType, FeatureId, LogId } from '../../abi/nvme.ts';
import { Oaes } from '../../abi/nvme-identify.ts';
import { SmartLog } from '../../abi/nvme-structs.ts';
import { VfioError } from '../../base/errno.ts';
import { NvmeError } from './errors.ts';
import type { EventListeners } from './events.ts';
import type { NamespaceList } from './namespace-list.ts';
import type { Session } from './session.ts';
import { Submission } from './submission.ts';

/** More are of no use, because events wait in the controller. */
const ARMED_MAX = 4;
/** All SMART warnings (5.21.1.11, bits 7:0). */
const SMART_WARNINGS = 0x3f;
/** Events in a row that the driver answers without a pause. After them it pauses. */
const BURST = 32;
const PAUSE_MS = 1000;

const errorMessages: Readonly<Record<number, string>> = {
  [EventError.INVALID_DOORBELL_REGISTER]: 'Write to Invalid Doorbell Register',
  [EventError.INVALID_DOORBELL_VALUE]: 'Invalid Doorbell Write Value',
  [EventError.DIAGNOSTIC_FAILURE]: 'Diagnostic Failure',
  [EventError.PERSISTENT_INTERNAL]: 'Persistent Internal Error',
  [EventError.TRANSIENT_INTERNAL]: 'Transient Internal Error',
  [EventError.FIRMWARE_LOAD]: 'Firmware Image Load Error',
};

export class AsyncEvents {
  readonly #session: Session;
  readonly #listeners: EventListeners;
  readonly #namespaces: NamespaceList;
  #burst = 0;
  #armed = 0;

  constructor(session: Session, namespaces: NamespaceList, listeners: EventListeners) {
    this.#session = session;
    this.#namespaces = namespaces;
    this.#listeners = listeners;
  }

  /** Number of requests that the controller holds. */
  get armed(): number {
    return this.#armed;
  }

  /**
   * After each enable: name the wanted events, and hand over the requests. Kinds that the
   * controller does not know are left out.
   */
  async arm(): Promise<void> {
    const { info, admin } = this.#session;
    const notices = info.identify.oaes & (Oaes.NAMESPACE_CHANGED | Oaes.FIRMWARE_ACTIVATION);
    try {
      await admin.setFeature(FeatureId.ASYNC_EVENT_CONFIGURATION, SMART_WARNINGS | notices);
    } catch (error) {
      if (!(error instanceof NvmeError)) throw error;
      this.#session.log('debug', `asynchronous events stay as they are: ${error.message}`);
    }
    this.#armed = 0;
    for (let i = 0; i < Math.min(ARMED_MAX, info.eventRequests); i++) this.#request();
  }

  #request(): void {
    const submission = new Submission(true, AdminOpcode.ASYNC_EVENT_REQUEST, 0, 0, 0, 0);
    submission.background = true;
    this.#armed++;
    const life = this.#session.life;
    this.#session.adminQueue.run(submission).then(
      (result) => {
        this.#armed--;
        void this.#arrived(result, life);
      },
      (error: unknown) => {
        this.#armed--;
        // The controller takes fewer requests, or none. Otherwise the queue is gone, and the next
        // start arms anew.
        if (error instanceof NvmeError) this.#session.log('debug', error.message);
      },
    );
  }

  async #arrived(result: number, life: number): Promise<void> {
    try {
      await this.#answer(result & 7, (result >>> 8) & 0xff, (result >>> 16) & 0xff);
    } catch (error) {
      // The log cannot be read. The event is reported all the same.
      if (!(error instanceof VfioError)) throw error;
      if (life === this.#session.life)
        this.#session.log('warn', `an asynchronous event (0x${result.toString(16)}) could not be answered: ${error.message}`);
    }
    if (life !== this.#session.life) return;
    if (++this.#burst > BURST) {
      this.#burst = 0;
      await this.#session.rest(PAUSE_MS);
      if (life !== this.#session.life) return;
    }
    this.#request();
  }

  async #answer(type: number, info: number, log: number): Promise<void> {
    const { admin } = this.#session;
    if (type === EventType.SMART) {
      const bytes = await admin.log(LogId.SMART, SmartLog.layoutSize);
      this.#listeners.emit({ kind: 'smart', info, smart: SmartLog.decode(new DataView(bytes.buffer)) });
    } else if (type === EventType.ERROR) {
      const message = errorMessages[info] ?? `error 0x${info.toString(16)}`;
      this.#session.log('warn', `${this.#session.deviceName} reports: ${message}`);
      this.#listeners.emit({ kind: 'error', info, message });
      if (info === EventError.PERSISTENT_INTERNAL) void this.#session.recover(`it reports ${message}`);
      else await admin.log(LogId.ERROR_INFORMATION, 64);
    } else if (type === EventType.NOTICE && info === EventNotice.NAMESPACE_CHANGED) {
      // The driver reads the log only to answer the event. A scan finds the changes, also on a
      // controller without the log.
      const answered = admin.log(LogId.CHANGED_NAMESPACES, 4096);
      await answered.catch(() => {});
      const changes = await this.#namespaces.scan();
      this.#listeners.emit({ kind: 'namespaces', ...changes });
      await answered;
    } else {
      this.#listeners.emit({ kind: 'notice', type, info, log });
      // The controller sends the next event of a kind only after its log was read.
      if (log !== 0) await admin.log(log, 512);
    }
  }
}
