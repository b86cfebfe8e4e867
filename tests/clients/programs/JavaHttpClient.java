import java.io.ByteArrayInputStream;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublisher;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse;
import java.net.http.HttpResponse.BodyHandlers;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CompletableFuture;

/** Java's own client with its defaults, so HTTP/2 preferred: each request offers h2c. A line for each call: name, version, status, text. */
public class JavaHttpClient {
    private static final HttpClient CLIENT = HttpClient.newHttpClient();
    private static final String URL = System.getenv("GATEWAY_URL");

    public static void main(String[] arguments) throws Exception {
        tell("models", CLIENT.send(request("/v1/models").build(), BodyHandlers.ofString()));
        String prompt = ",\"max_tokens\":50,\"messages\":[{\"role\":\"user\",\"content\":\"[[sim tokens=7]] Hello there\"}]}";
        String plain = "{\"model\":\"gpt-4o-mini\"" + prompt;
        String streamed = "{\"model\":\"gpt-4o-mini\",\"stream\":true" + prompt;
        for (int round = 1; round <= 2; round++) {
            tell("plain", post(BodyPublishers.ofString(plain)));
            tell("stream", post(BodyPublishers.ofString(streamed)));
            tell("chunked", post(BodyPublishers.ofInputStream(() -> new ByteArrayInputStream(plain.getBytes()))));
        }
        List<CompletableFuture<HttpResponse<String>>> together = new ArrayList<>();
        for (int number = 0; number < 8; number++) {
            together.add(CLIENT.sendAsync(request("/v1/models").build(), BodyHandlers.ofString()));
        }
        for (CompletableFuture<HttpResponse<String>> each : together) {
            tell("models", each.get());
        }
    }

    private static HttpResponse<String> post(BodyPublisher body) throws Exception {
        HttpRequest.Builder builder = request("/v1/chat/completions").header("Content-Type", "application/json");
        return CLIENT.send(builder.POST(body).build(), BodyHandlers.ofString());
    }

    private static HttpRequest.Builder request(String path) {
        return HttpRequest.newBuilder(URI.create(URL + path)).header("Authorization", "Bearer " + System.getenv("GATEWAY_KEY"));
    }

    private static void tell(String name, HttpResponse<String> answer) {
        String end = answer.body().strip().endsWith("data: [DONE]") ? "whole stream" : answer.body().contains("\"usage\"") ? "usage" : "";
        System.out.println(name + " " + answer.version() + " " + answer.statusCode() + " " + end);
    }
}
