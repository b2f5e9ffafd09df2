/** Identify (NVMe 1.4, 5.15): what the controller and its namespaces are. */
import { NSID_ALL, VERSION_1_4 } from '../../../abi/nvme.ts';
import { Cns, IDENTIFY_SIZE, Lpa, Oacs, Oaes, Oncs } from '../../../abi/nvme-identify.ts';
import { refused, Status } from '../../../abi/nvme-status.ts';
import { IdentifyController, POWER_STATES_OFFSET, PowerState } from '../../../abi/nvme-structs.ts';
import { EVENT_REQUESTS } from '../async-events.ts';
import { ERROR_LOG_ENTRIES } from '../error-log.ts';
import { CRITICAL_TEMPERATURE, WARNING_TEMPERATURE } from '../health.ts';
import { KEEP_ALIVE_GRANULARITY } from '../keep-alive.ts';
import type { Namespaces } from '../namespaces.ts';
import { NVM_ATOMIC_WRITE_UNIT, NVM_ONCS, NVM_SGLS } from '../nvm-commands.ts';

/** Who the controller is. */
export interface Identity {
  readonly vendor: number;
  readonly subsystemVendor: number;
  /** ASCII, up to 20, 40 and 8 characters. */
  readonly serial: string;
  readonly model: string;
  readonly firmware: string;
  /** IEEE OUI, as it is written: 52-54-00 is 0x525400. */
  readonly oui: number;
  /** NVMe Qualified Name of the NVM subsystem. */
  readonly nqn: string;
  /** MDTS: a power of two, in units of 4096 bytes. */
  readonly mdts: number;
}

/** Abort commands at once: ACL + 1. */
const ABORTS = 4;
/** Microseconds to become ready and to shut down: what a slow disk takes to write what it holds. */
const RESUME_US = 1_000_000;
const SHUTDOWN_US = 10_000_000;

export class Identify {
  readonly #identity: Identity;
  readonly #namespaces: Namespaces;
  readonly #takesShadows: () => boolean;

  /**
   * @param takesShadows whether shadow doorbells are offered: only where the host's memory is
   *   directly mapped
   */
  constructor(identity: Identity, namespaces: Namespaces, takesShadows: () => boolean) {
    this.#identity = identity;
    this.#namespaces = namespaces;
    this.#takesShadows = takesShadows;
  }

  /**
   * The data structure that `cns` names.
   *
   * @param into  4096 bytes, zeroed   @returns a status; anything but SUCCESS: `into` is as it was
   */
  build(cns: number, nsid: number, into: Uint8Array): number {
    const namespaces = this.#namespaces;
    switch (cns) {
      case Cns.NAMESPACE: {
        // FFFFFFFFh names the data common to all namespaces, and needs namespace management.
        const namespace = namespaces.get(nsid);
        if (namespace === undefined) return refused(Status.INVALID_NAMESPACE);
        namespace.identify(into);
        return Status.SUCCESS;
      }
      case Cns.CONTROLLER:
        this.#controller(into);
        return Status.SUCCESS;
      case Cns.ACTIVE_NAMESPACES:
        if (nsid >= NSID_ALL - 1) return refused(Status.INVALID_NAMESPACE);
        namespaces.active(nsid, into);
        return Status.SUCCESS;
      case Cns.NAMESPACE_DESCRIPTORS: {
        const namespace = namespaces.get(nsid);
        if (namespace === undefined) return refused(Status.INVALID_NAMESPACE);
        namespace.descriptors(into);
        return Status.SUCCESS;
      }
      default:
        return refused(Status.INVALID_FIELD);
    }
  }

  /** Identify Controller (5.15.2.2). */
  #controller(into: Uint8Array): void {
    const { vendor, subsystemVendor, serial, model, firmware, oui, nqn, mdts } = this.#identity;
    const namespaces = this.#namespaces;
    const view = new DataView(into.buffer, into.byteOffset, IDENTIFY_SIZE);
    IdentifyController.encode(view, {
      vid: vendor,
      ssvid: subsystemVendor,
      sn: serial,
      mn: model,
      fr: firmware,
      rab: 6,
      ieee: Uint8Array.of(oui & 0xff, (oui >>> 8) & 0xff, oui >>> 16),
      mdts,
      ver: VERSION_1_4,
      rtd3r: RESUME_US,
      rtd3e: SHUTDOWN_US,
      oaes: Oaes.NAMESPACE_CHANGED,
      cntrltype: 1,
      oacs: Oacs.FORMAT | (this.#takesShadows() ? Oacs.DOORBELL_BUFFER : 0),
      acl: ABORTS - 1,
      aerl: EVENT_REQUESTS - 1,
      // One firmware slot, which is read-only.
      frmw: (1 << 1) | 1,
      lpa: Lpa.COMMANDS_SUPPORTED | Lpa.EXTENDED_DATA,
      elpe: ERROR_LOG_ENTRIES - 1,
      npss: 0,
      wctemp: WARNING_TEMPERATURE,
      cctemp: CRITICAL_TEMPERATURE,
      tnvmcap: namespaces.capacity,
      kas: KEEP_ALIVE_GRANULARITY,
      sqes: 0x66,
      cqes: 0x44,
      nn: namespaces.count,
      oncs: NVM_ONCS | Oncs.FEATURE_SAVE | Oncs.TIMESTAMP,
      vwc: namespaces.vwc,
      awun: NVM_ATOMIC_WRITE_UNIT,
      awupf: NVM_ATOMIC_WRITE_UNIT,
      sgls: NVM_SGLS,
      subnqn: nqn,
    });
    PowerState.encode(view, { mp: 2500, enlat: 16, exlat: 4 }, POWER_STATES_OFFSET);
  }
}
