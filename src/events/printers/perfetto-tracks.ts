/**
 * Tracks of a Perfetto trace: one for the machine, one for each device under it, and the places of
 * a device under that. Slices of one track must not overlap, so a place whose slices do has several
 * tracks of one name (lanes), which the viewer shows as one.
 */
import type { PerfettoPackets } from './perfetto-packets.ts';

/** Tracks of a trace. The names of devices and queues come from peers and models. */
const TRACKS_MAX = 4096;
/** Slices of a place at the same time. */
const LANES_MAX = 256;

/** The name of the track of the machine, and of the device whose events are on it. */
const MACHINE = 'machine';

/** A track of a device. */
export interface Place {
  readonly name: string;
  /** Where it stands among its siblings. */
  readonly rank: number;
}

export interface Lane {
  readonly track: number;
  /** Too many tracks: events of others are on it, so it can have no slices. */
  readonly shared: boolean;
  /** The end of its last slice. */
  busyUntilNs: number;
}

export class PerfettoTracks {
  readonly #packets: PerfettoPackets;
  readonly #devices = new Map<string, number>();
  readonly #places = new Map<string, Lane[]>();
  readonly #shared: Lane = { track: 1, shared: true, busyUntilNs: 0 };
  #last = 1;

  constructor(packets: PerfettoPackets) {
    this.#packets = packets;
  }

  /** The track of the machine. */
  start(): void {
    this.#packets.track(this.#shared.track, 0, MACHINE, 0);
    this.#devices.set(MACHINE, this.#shared.track);
  }

  /**
   * The track of a place. With times it is one that is free from `beginNs` on, and is taken until
   * `endNs`.
   */
  lane(device: string, place: Place, beginNs?: number, endNs = 0): Lane {
    // A queue may have the name of another place.
    const key = `${device}\0${place.rank}\0${place.name}`;
    let lanes = this.#places.get(key);
    let lane = lanes?.find(({ busyUntilNs }) => beginNs === undefined || busyUntilNs <= beginNs);
    if (lane === undefined) {
      if (this.#last + 2 > TRACKS_MAX || (lanes !== undefined && lanes.length >= LANES_MAX)) return this.#shared;
      lane = { track: ++this.#last, shared: false, busyUntilNs: 0 };
      this.#packets.track(lane.track, this.#deviceTrack(device), place.name, place.rank);
      lanes ??= [];
      lanes.push(lane);
      this.#places.set(key, lanes);
    }
    if (beginNs !== undefined) lane.busyUntilNs = endNs;
    return lane;
  }

  #deviceTrack(device: string): number {
    const known = this.#devices.get(device);
    if (known !== undefined) return known;
    const track = ++this.#last;
    this.#packets.track(track, this.#shared.track, device, this.#devices.size);
    this.#devices.set(device, track);
    return track;
  }
}
