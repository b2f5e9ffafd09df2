import { expect, it } from 'vitest';
import { type HostDocumentName, hostDocuments, hostJsonSchema } from './host-schemas.ts';

it.each(Object.keys(hostDocuments) as HostDocumentName[])(
  'the committed JSON Schema of vfio %s is what the code says (update it with: npx vitest run src/api/host-schemas.test.ts -u)',
  async (name) => {
    await expect(`${JSON.stringify(hostJsonSchema(name), null, 2)}\n`).toMatchFileSnapshot(`../../schemas/${name}.schema.json`);
  },
);
