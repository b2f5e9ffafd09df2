/**
 * How the data of each device feature reads: a row for each feature and operation that has data.
 */
import { Feature, FeatureFlags, MigrationFlags, MigrationState, RegionIndex } from '../../abi/vfio.ts';
import {
  DeviceFeature,
  DmaBufRange,
  FeatureBusMaster,
  FeatureDmaBuf,
  FeatureDmaLoggingRange,
  FeatureMigDataSize,
  FeatureMigration,
  FeatureMigState,
} from '../../abi/vfio-structs.ts';
import { struct } from '../../base/struct.ts';
import {
  type AnyStruct,
  bits,
  bytes,
  type Case,
  dec,
  dirty,
  each,
  flags,
  longer,
  name,
  otherwise,
  pick,
  type Ref,
  range,
  ref,
  type Word,
  zero,
} from './shape.ts';

/**
 * Data of DMA_LOGGING_START: followed by `num_ranges` FeatureDmaLoggingRange of vfio-structs.ts.
 */
export const UserDmaLoggingControl = struct('vfio_user_device_feature_dma_logging_control', 16, {
  page_size: 'u64',
  num_ranges: 'u32',
  reserved: 'u32',
});
/** Data of DMA_LOGGING_REPORT; the reply appends the bitmap. */
export const UserDmaLoggingReport = struct('vfio_user_device_feature_dma_logging_report', 24, {
  iova: 'u64',
  length: 'u64',
  page_size: 'u64',
});
/**
 * Data of SYSTEM_SLEEP, ours: -1 for none, else 0, with the eventfds in this order beside the
 * message.
 */
const SystemSleep = struct('vfio_ts_device_feature_system_sleep', 8, { suspend_eventfd: 's32', resume_eventfd: 's32' });

const AT = DeviceFeature.structSize;
const ALL_OPS = FeatureFlags.GET | FeatureFlags.SET | FeatureFlags.PROBE;
const U32 = 0xffff_ffff;

interface Row {
  readonly feature: number;
  readonly op: 'get' | 'set';
  /**
   * The reply to a set repeats the request. A get has data in its reply, and few have some in the
   * request.
   */
  readonly in: 'both' | 'command' | 'reply';
  readonly struct: AnyStruct | null;
  readonly words: readonly Word[];
}

const after = (field: { readonly offset: number; readonly size: number }): Ref => ref(field, AT);
const at = (field: { readonly offset: number; readonly size: number }) => ({ offset: AT + field.offset, size: field.size });

const state: readonly Word[] = [name(at(FeatureMigState.device_state), MigrationState, 'state')];
const reported: readonly Word[] = [
  range(UserDmaLoggingReport.iova, UserDmaLoggingReport.length, AT),
  ' in pages of ',
  dec(UserDmaLoggingReport.page_size, AT),
];
const rangesAt = AT + UserDmaLoggingControl.structSize;

const rows: readonly Row[] = [
  // The token is a secret: no words, and no structure.
  { feature: Feature.PCI_VF_TOKEN, op: 'set', in: 'both', struct: null, words: ['a token'] },
  {
    feature: Feature.MIGRATION,
    op: 'get',
    in: 'reply',
    struct: FeatureMigration,
    words: [flags(FeatureMigration.flags, MigrationFlags, AT)],
  },
  { feature: Feature.MIG_DEVICE_STATE, op: 'get', in: 'reply', struct: FeatureMigState, words: state },
  { feature: Feature.MIG_DEVICE_STATE, op: 'set', in: 'both', struct: FeatureMigState, words: state },
  {
    feature: Feature.MIG_DATA_SIZE,
    op: 'get',
    in: 'reply',
    struct: FeatureMigDataSize,
    words: [dec(FeatureMigDataSize.stop_copy_length, AT), ' bytes'],
  },
  {
    feature: Feature.DMA_LOGGING_START,
    op: 'set',
    in: 'both',
    struct: UserDmaLoggingControl,
    words: [
      'pages of ',
      dec(UserDmaLoggingControl.page_size, AT),
      ', ',
      pick(
        zero(after(UserDmaLoggingControl.num_ranges), 'all memory'),
        otherwise(
          each(rangesAt, after(UserDmaLoggingControl.num_ranges), {
            struct: FeatureDmaLoggingRange,
            words: [range(FeatureDmaLoggingRange.iova, FeatureDmaLoggingRange.length)],
          }),
        ),
      ),
    ],
  },
  { feature: Feature.DMA_LOGGING_REPORT, op: 'get', in: 'command', struct: UserDmaLoggingReport, words: reported },
  {
    feature: Feature.DMA_LOGGING_REPORT,
    op: 'get',
    in: 'reply',
    struct: UserDmaLoggingReport,
    words: [
      ...reported,
      ', ',
      dirty(AT + UserDmaLoggingReport.structSize, after(UserDmaLoggingReport.iova), after(UserDmaLoggingReport.page_size)),
    ],
  },
  {
    feature: Feature.BUS_MASTER,
    op: 'set',
    in: 'both',
    struct: FeatureBusMaster,
    words: [name(at(FeatureBusMaster.op), { off: 0, on: 1 }, 'op')],
  },
  {
    feature: Feature.DMA_BUF,
    op: 'get',
    in: 'command',
    struct: FeatureDmaBuf,
    words: [
      name(at(FeatureDmaBuf.region_index), RegionIndex, 'region'),
      ' ',
      each(AT + FeatureDmaBuf.structSize, after(FeatureDmaBuf.nr_ranges), {
        struct: DmaBufRange,
        words: [range(DmaBufRange.offset, DmaBufRange.length)],
      }),
    ],
  },
  {
    feature: Feature.SYSTEM_SLEEP,
    op: 'set',
    in: 'both',
    struct: SystemSleep,
    words: [pick(bits(after(SystemSleep.suspend_eventfd), U32, U32, 'no longer'), otherwise('by eventfds'))],
  },
  {
    feature: Feature.SYSTEM_SLEEP_ACK,
    op: 'set',
    in: 'both',
    struct: null,
    words: [pick(longer(AT, 'suspend ', dec({ offset: 0, size: 8 }, AT)), otherwise('the last suspend'))],
  },
];

/** The words after the name of the feature and the operation. */
export function featureWords(reply: boolean): Word {
  const known = rows
    .filter((row) => row.in === 'both' || row.in === (reply ? 'reply' : 'command'))
    .map(({ feature, op, struct: layout, words }): Case => {
      const flag = op === 'get' ? FeatureFlags.GET : FeatureFlags.SET;
      const test = { kind: 'bits', ref: ref(DeviceFeature.flags), mask: FeatureFlags.MASK | ALL_OPS, is: feature | flag } as const;
      return { test, shape: { at: AT, structs: layout === null ? [] : [layout], words: [': ', ...words] } };
    });
  return pick(...known, longer(AT, ' ', bytes(AT)));
}
