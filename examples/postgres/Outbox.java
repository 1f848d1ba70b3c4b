import java.net.URI;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.ResultSet;
import java.sql.SQLException;

/** An order and its message, in one transaction; and a reader of such messages, which ships each order once. */
public class Outbox {
    private static final String TOPIC = "orders-java";

    public static void main(String[] arguments) throws Exception {
        try (Connection connection = connect(System.getenv().getOrDefault("DATABASE_URL", "postgres://localhost/shop"))) {
            connection.createStatement().execute(
                "CREATE TABLE IF NOT EXISTS orders_java (id bigint PRIMARY KEY, item text NOT NULL);"
                    + "CREATE TABLE IF NOT EXISTS shipments_java (id bigint PRIMARY KEY)");
            connection.setAutoCommit(false);

            long message = add(connection, 1, "a lamp");
            connection.commit(); // the order and its message are there

            add(connection, 2, "a regret");
            connection.rollback(); // neither is

            connection.setAutoCommit(true);
            while (!printPlace(connection, message)) {
                Thread.sleep(100);
            }

            connection.setAutoCommit(false);
            ship(connection);
            connection.commit(); // what is read and how far the reader has come, or neither
        }
    }

    /** Adds an order, and tells of it. */
    private static long add(Connection connection, long number, String item) throws SQLException {
        try (var order = connection.prepareStatement("INSERT INTO orders_java VALUES (?, ?)")) {
            order.setLong(1, number);
            order.setString(2, item);
            order.executeUpdate();
        }
        try (var message = connection.prepareStatement("SELECT yagura.produce(?, ?, key => ?)")) {
            message.setString(1, TOPIC);
            message.setString(2, "{\"id\": " + number + ", \"item\": \"" + item + "\"}");
            message.setString(3, Long.toString(number));
            ResultSet sent = message.executeQuery();
            sent.next();
            return sent.getLong(1);
        }
    }

    private static boolean printPlace(Connection connection, long message) throws SQLException {
        try (var position = connection.prepareStatement("SELECT partition, \"offset\" FROM yagura.position(?)")) {
            position.setLong(1, message);
            ResultSet place = position.executeQuery();
            if (!place.next()) {
                return false;
            }
            System.out.printf("order 1 is at offset %d of partition %d%n", place.getLong(2), place.getInt(1));
            return true;
        }
    }

    /** Reads what is new, and keeps it. */
    private static void ship(Connection connection) throws SQLException {
        String poll = "INSERT INTO shipments_java SELECT (convert_from(value, 'UTF8')::jsonb ->> 'id')::bigint"
            + " FROM yagura.poll('shipping-java', ?) RETURNING id";
        try (var shipment = connection.prepareStatement(poll)) {
            shipment.setString(1, TOPIC);
            ResultSet orders = shipment.executeQuery();
            while (orders.next()) {
                System.out.printf("order %d is shipped%n", orders.getLong(1));
            }
        }
        try (var done = connection.prepareStatement("SELECT yagura.commit('shipping-java', ?)")) {
            done.setString(1, TOPIC);
            done.executeQuery();
        }
    }

    /** JDBC has the user apart. */
    private static Connection connect(String url) throws SQLException {
        URI at = URI.create(url);
        String[] user = at.getUserInfo() == null ? new String[] {System.getProperty("user.name")} : at.getUserInfo().split(":", 2);
        String jdbc = "jdbc:postgresql://" + at.getHost() + ":" + (at.getPort() < 0 ? 5432 : at.getPort()) + at.getPath();
        return DriverManager.getConnection(jdbc, user[0], user.length > 1 ? user[1] : "");
    }
}
