/** The states of a controller, and the events that `driver.on` reports. */
import type { SmartLog } from '../../abi/nvme-structs.ts';
import { Emitter } from '../../base/emitter.ts';
import { surface } from '../../base/foreign.ts';
import type { NvmeNamespace } from './namespace.ts';

/** starting and resetting: only the session itself uses the controller */
export type SessionState = 'starting' | 'live' | 'resetting' | 'failed' | 'closing' | 'closed' | 'gone';

/** An event that the controller or its driver reports. */
export type NvmeEvent =
  /**
   * A health warning (5.2.1, type SMART): `info` is one of `EventSmart`. The driver has read the
   * log, which answers the event.
   */
  | { readonly kind: 'smart'; readonly info: number; readonly smart: SmartLog }
  /** The controller met an error (type Error): `info` is one of `EventError`. */
  | { readonly kind: 'error'; readonly info: number; readonly message: string }
  /** Namespaces came, went or changed. `driver.namespaces` is up to date already. */
  | {
      readonly kind: 'namespaces';
      readonly added: readonly NvmeNamespace[];
      readonly removed: readonly NvmeNamespace[];
      readonly changed: readonly NvmeNamespace[];
    }
  /** Any other event: firmware activation, telemetry, a vendor's. */
  | { readonly kind: 'notice'; readonly type: number; readonly info: number; readonly log: number }
  /** Commands had completed without an interrupt. */
  | { readonly kind: 'lost-interrupt'; readonly queue: number; readonly commands: number }
  /** A command took too long, and an Abort was sent for it. */
  | { readonly kind: 'abort'; readonly queue: number; readonly commandId: number }
  /** The controller is being reset. Commands in flight fail. */
  | { readonly kind: 'reset'; readonly reason: string }
  /** The controller works again. */
  | { readonly kind: 'recovered' }
  /** The controller did not come back. `driver.reset()` tries again. */
  | { readonly kind: 'failed'; readonly error: Error }
  | { readonly kind: 'gone'; readonly reason: string };

/** A listener of `NvmeDriver.on`. */
export type NvmeListener = (event: NvmeEvent) => void;

/**
 * The failure of a listener surfaces as an uncaught error. The event reaches the others all the
 * same.
 */
export class EventListeners extends Emitter<NvmeEvent> {
  constructor() {
    super((_event, error) => surface(error));
  }
}
