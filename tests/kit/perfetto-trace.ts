/**
 * A Perfetto trace, decoded by protobufjs with the fields that Perfetto's public .proto files give.
 * It is resolved as Perfetto's trace processor does: defaults, interned words, slices by nesting,
 * flows by time.
 */

import protobuf from 'protobufjs';
import { expect } from 'vitest';

const { root } = protobuf.parse(
  `
  syntax = "proto2";
  message Trace { repeated TracePacket packet = 1; }
  message TracePacket {
    optional ClockSnapshot clock_snapshot = 6; optional uint64 timestamp = 8; optional uint32 trusted_packet_sequence_id = 10;
    optional TrackEvent track_event = 11; optional InternedData interned_data = 12; optional uint32 sequence_flags = 13;
    optional uint32 timestamp_clock_id = 58; optional TracePacketDefaults trace_packet_defaults = 59;
    optional TrackDescriptor track_descriptor = 60; optional bool first_packet_on_sequence = 87;
  }
  message TracePacketDefaults { optional uint32 timestamp_clock_id = 58; }
  message ClockSnapshot {
    message Clock { optional uint32 clock_id = 1; optional uint64 timestamp = 2; }
    repeated Clock clocks = 1; optional uint32 primary_trace_clock = 2;
  }
  message TrackDescriptor {
    optional uint64 uuid = 1; optional string name = 2; optional uint64 parent_uuid = 5; optional int32 child_ordering = 11;
    optional int32 sibling_order_rank = 12;
  }
  message TrackEvent {
    repeated uint64 category_iids = 3; repeated DebugAnnotation debug_annotations = 4; optional int32 type = 9; optional uint64 name_iid = 10;
    optional uint64 track_uuid = 11; repeated string categories = 22; optional string name = 23; repeated fixed64 flow_ids = 47;
  }
  message DebugAnnotation {
    optional uint64 name_iid = 1; optional bool bool_value = 2; optional int64 int_value = 4; optional double double_value = 5;
    optional string string_value = 6; optional uint64 pointer_value = 7; optional string name = 10;
    repeated DebugAnnotation dict_entries = 11; optional uint64 string_value_iid = 17;
  }
  message InternedData {
    repeated Word event_categories = 1; repeated Word event_names = 2; repeated Word debug_annotation_names = 3;
    repeated Word debug_annotation_string_values = 29;
  }
  message Word { optional uint64 iid = 1; optional string name = 2; }
`,
  { keepCase: true },
);
const Trace = root.lookupType('Trace');

/** A packet as protobufjs gives it: 64-bit numbers are text. */
// biome-ignore lint/suspicious/noExplicitAny: the shape is that of the messages above
export type Packet = any;

export function packetsOf(trace: Uint8Array): Packet[] {
  return Trace.toObject(Trace.decode(trace), { longs: String }).packet ?? [];
}

export interface Slice {
  /** `machine/0000:00:04.0/DMA` */
  readonly track: string;
  readonly uuid: string;
  readonly name: string;
  readonly category: string;
  readonly ns: number;
  /** null: it has no end. */
  durationNs: number | null;
  readonly instant: boolean;
  readonly args: Record<string, unknown>;
  readonly flows: readonly string[];
}

export interface Timeline {
  readonly tracks: readonly string[];
  readonly slices: readonly Slice[];
  /** Arrows, from one slice to the next of its flow. */
  readonly flows: readonly (readonly [from: Slice, to: Slice])[];
  readonly clocks: Packet;
}

/** Everything in a trace, in the order of its times. It fails where slices do not nest. */
export function timelineOf(trace: Uint8Array): Timeline {
  const packets = packetsOf(trace);
  const tracks = new Map<string, string>();
  const words: Record<string, Map<string, string>> = {};
  const word = (table: string, iid: string): string => {
    const found = words[table]?.get(iid);
    expect(found, `${table} ${iid} is defined`).toBeDefined();
    return found!;
  };
  let clocks: Packet = null;
  const events: {
    readonly ns: number;
    readonly event: Packet;
    readonly name: string;
    readonly category: string;
    readonly args: Record<string, unknown>;
  }[] = [];
  const argsOf = (annotations: readonly Packet[] = []): Record<string, unknown> =>
    Object.fromEntries(annotations.map((each) => [each.name ?? word('debug_annotation_names', each.name_iid), valueOfArg(each)]));
  const valueOfArg = (each: Packet): unknown => {
    if (each.dict_entries !== undefined) return argsOf(each.dict_entries);
    if (each.string_value_iid !== undefined) return word('debug_annotation_string_values', each.string_value_iid);
    if (each.pointer_value !== undefined) return `0x${BigInt(each.pointer_value).toString(16)}`;
    if (each.int_value !== undefined) return Number(each.int_value);
    return each.string_value ?? each.bool_value ?? each.double_value ?? {};
  };
  for (const [i, packet] of packets.entries()) {
    expect([packet.trusted_packet_sequence_id, packet.first_packet_on_sequence ?? false]).toEqual([1, i === 0]);
    for (const [table, entries] of Object.entries<Packet[]>(packet.interned_data ?? {})) {
      words[table] ??= new Map();
      for (const { iid, name } of entries) words[table].set(iid, name);
    }
    clocks ??= packet.clock_snapshot ?? null;
    const descriptor = packet.track_descriptor;
    if (descriptor !== undefined) {
      const parent = descriptor.parent_uuid === undefined ? '' : `${tracks.get(descriptor.parent_uuid)}/`;
      expect(parent).not.toBe('undefined/');
      tracks.set(descriptor.uuid, `${parent}${descriptor.name}`);
    }
    const event = packet.track_event;
    if (event === undefined) continue;
    expect(packet.sequence_flags).toBe(2);
    events.push({
      ns: Number(packet.timestamp),
      event,
      name: event.name ?? (event.name_iid === undefined ? '' : word('event_names', event.name_iid)),
      category: event.category_iids === undefined ? '' : word('event_categories', event.category_iids[0]),
      args: argsOf(event.debug_annotations),
    });
  }
  events.sort((a, b) => a.ns - b.ns);
  const slices: Slice[] = [];
  const open = new Map<string, Slice[]>();
  for (const { ns, event, name, category, args } of events) {
    const stack = open.get(event.track_uuid) ?? [];
    open.set(event.track_uuid, stack);
    if (event.type === 2) {
      const slice = stack.pop();
      expect(slice, 'an end has its beginning').toBeDefined();
      slice!.durationNs = ns - slice!.ns;
      Object.assign(slice!.args, args);
      continue;
    }
    const track = tracks.get(event.track_uuid);
    expect(track, 'the track is described before').toBeDefined();
    const instant = event.type === 3;
    const slice = {
      track: track!,
      uuid: event.track_uuid,
      name,
      category,
      ns,
      durationNs: instant ? 0 : null,
      instant,
      args,
      flows: event.flow_ids ?? [],
    };
    slices.push(slice);
    if (!instant) stack.push(slice);
  }
  const last = new Map<string, Slice>();
  const flows: [Slice, Slice][] = [];
  for (const slice of slices) {
    for (const flow of slice.flows) {
      const before = last.get(flow);
      if (before !== undefined) flows.push([before, slice]);
      last.set(flow, slice);
    }
  }
  return { tracks: [...tracks.values()], slices, flows, clocks };
}
