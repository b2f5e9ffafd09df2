import fc from 'fast-check';
import protobuf from 'protobufjs';
import { expect, it } from 'vitest';
import { ProtobufWriter } from './protobuf.ts';

const { root } = protobuf.parse(`
  syntax = "proto2";
  message Tree {
    optional uint64 number = 1; optional int64 sum = 2; optional fixed64 id = 3; optional double real = 4;
    optional string name = 5; optional bool yes = 6; repeated Tree children = 500;
  }`);
const Tree = root.lookupType('Tree');

interface Tree {
  readonly number: string;
  readonly sum: string;
  readonly id: string;
  readonly real: number;
  readonly name: string;
  readonly yes: boolean;
  readonly children: readonly Tree[];
}

const safe = fc.maxSafeNat().map(String);
const tree = fc.letrec<{ tree: Tree }>((tie) => ({
  tree: fc.record({
    number: fc.oneof(safe, fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }).map(String), fc.constantFrom('127', '128', '16383', '16384')),
    sum: fc.maxSafeInteger().map(String),
    id: safe,
    real: fc.double({ noNaN: true }),
    name: fc.oneof(
      fc.string({ unit: 'grapheme' }),
      fc.nat(200).map((n) => 'é'.repeat(100 * n)),
    ),
    yes: fc.boolean(),
    children: fc.oneof({ maxDepth: 3 }, fc.constant([]), fc.array(tie('tree'), { maxLength: 3 })),
  }),
})).tree;

function write(writer: ProtobufWriter, { number, sum, id, real, name, yes, children }: Tree): void {
  const value = BigInt(number);
  writer.uint(1, value <= Number.MAX_SAFE_INTEGER ? Number(value) : value);
  writer.int(2, Number(sum));
  writer.fixed64(3, Number(id));
  writer.double(4, real);
  writer.string(5, name);
  writer.bool(6, yes);
  for (const child of children) {
    const begun = writer.begin(500);
    write(writer, child);
    writer.end(begun);
  }
}

it('an independent decoder reads what was written', () => {
  const writer = new ProtobufWriter();
  fc.assert(
    fc.property(tree, (value) => {
      write(writer, value);
      const decoded = Tree.toObject(Tree.decode(writer.take()), { longs: String, arrays: true });
      expect(decoded).toEqual(value);
    }),
  );
});
