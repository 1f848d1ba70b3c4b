import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.header.internals.RecordHeader;

/** Reads the data set of ../dataset.py (its docstring defines the file) and builds record bodies from it. */
record Dataset(int partitions, List<Dataset.Entry> records) {

    record Entry(long timestamp, int partition, byte[] key, byte[] value, List<Header> headers, byte[] body) {}

    static Dataset read(Path path) throws Exception {
        ByteBuffer file = ByteBuffer.wrap(Files.readAllBytes(path));
        if (file.getInt() != 0x59475244 || file.getInt() != 1) {
            throw new Mismatch(path + " is not a data set of version 1");
        }
        int partitions = file.getInt();
        int count = file.getInt();
        List<Entry> records = new ArrayList<>(count);
        for (int i = 0; i < count; i++) {
            byte[] body = new byte[file.getInt()];
            file.get(body).getInt();
            records.add(decode(body));
        }
        return new Dataset(partitions, records);
    }

    private static Entry decode(byte[] body) {
        ByteBuffer in = ByteBuffer.wrap(body);
        long timestamp = in.getLong();
        int partition = in.getInt();
        byte[] key = take(in);
        byte[] value = take(in);
        int count = in.getInt();
        List<Header> headers = new ArrayList<>(count);
        for (int i = 0; i < count; i++) {
            headers.add(new RecordHeader(new String(take(in), StandardCharsets.UTF_8), take(in)));
        }
        return new Entry(timestamp, partition, key, value, headers, body);
    }

    private static byte[] take(ByteBuffer in) {
        int length = in.getInt();
        if (length < 0) {
            return null;
        }
        byte[] bytes = new byte[length];
        in.get(bytes);
        return bytes;
    }

    /** The canonical bytes of a record, as the file holds them. */
    static byte[] encode(long timestamp, int partition, byte[] key, byte[] value, Iterable<Header> headers) {
        int count = 0;
        int size = 24 + length(key) + length(value);
        for (Header h : headers) {
            count++;
            size += 8 + h.key().getBytes(StandardCharsets.UTF_8).length + length(h.value());
        }
        ByteBuffer out = ByteBuffer.allocate(size).putLong(timestamp).putInt(partition);
        put(put(out, key), value).putInt(count);
        for (Header h : headers) {
            put(put(out, h.key().getBytes(StandardCharsets.UTF_8)), h.value());
        }
        return out.array();
    }

    private static int length(byte[] bytes) {
        return bytes == null ? 0 : bytes.length;
    }

    private static ByteBuffer put(ByteBuffer out, byte[] bytes) {
        return bytes == null ? out.putInt(-1) : out.putInt(bytes.length).put(bytes);
    }

    /** The records of one partition, in the order they are produced in. */
    static List<Entry> ofPartition(List<Entry> records, int partition) {
        return records.stream().filter(r -> r.partition() == partition).toList();
    }

    /** A record for a message: all fields, the long ones cut. */
    static String show(byte[] body) {
        Entry entry = decode(body);
        String headers = entry.headers().stream().map(h -> h.key() + "=" + quote(h.value())).toList().toString();
        return "timestamp " + entry.timestamp() + ", key " + quote(entry.key()) + ", value " + quote(entry.value())
            + ", headers " + headers;
    }

    private static String quote(byte[] bytes) {
        if (bytes == null) {
            return "null";
        }
        String text = new String(Arrays.copyOf(bytes, Math.min(bytes.length, 200)), StandardCharsets.ISO_8859_1);
        return "\"" + text.replaceAll("[^ -~]", "?") + "\" (" + bytes.length + " bytes)";
    }
}
