import { expect, it } from 'vitest';
import { z } from 'zod';
import { machineJsonSchema, machineSchema } from './machine-schema.ts';

it('the committed JSON Schema is what the code says (update it with: npx vitest run src/api/machine-schema.test.ts -u)', async () => {
  await expect(`${JSON.stringify(machineJsonSchema(), null, 2)}\n`).toMatchFileSnapshot('../../schemas/machine.schema.json');
});

it('has a description or a plain type for every field, and refuses unknown ones', () => {
  const schema = machineJsonSchema() as {
    additionalProperties: boolean;
    required: string[];
    $defs: Record<string, { additionalProperties: boolean }>;
  };
  expect([schema.additionalProperties, schema.required, schema.$defs.device!.additionalProperties]).toEqual([false, ['devices'], false]);
  expect(JSON.stringify(schema)).not.toContain('"json"');
  expect(machineSchema).toBeInstanceOf(z.ZodType);
});
