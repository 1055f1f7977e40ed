using System.Text.Json;
using Sandbox.Guest.Protocol;
using Sandbox.Isolation.Guest;

namespace Sandbox.Guest.Agent.Tests;

/// <summary>What values look like beside their text: figures and their charts, images, tables, JSON.</summary>
public sealed class RichResultTests : IAsyncLifetime
{
    private const string Chart = "application/vnd.sandbox.chart+json";
    private const string Table = "application/vnd.sandbox.table+json";
    private readonly AgentFixture _agent = new();
    private GuestConnection _guest = null!;

    public async ValueTask InitializeAsync() => _guest = await _agent.ConnectAsync();

    public ValueTask DisposeAsync() => _agent.DisposeAsync();

    [Fact]
    public async Task A_figure_is_shown_once_with_the_data_of_its_chart()
    {
        await StartAsync("python", "c", "matplotlib");
        var line = await FigureAsync("import matplotlib.pyplot as plt\nplt.plot([1, 2, 3], [4, 5, float('nan')], label='a')\nplt.xlabel('Time (s)'); plt.title('T'); _ = plt.axhline(3)");
        Assert.Equal("line", line.GetProperty("type").GetString());
        Assert.Equal("T", line.GetProperty("title").GetString());
        Assert.Equal("Time (s)", line.GetProperty("x_label").GetString());
        Assert.Equal("linear", line.GetProperty("x_scale").GetString());
        Assert.Equal(line.GetProperty("x_ticks").GetArrayLength(), line.GetProperty("x_tick_labels").GetArrayLength());
        var element = Assert.Single(line.GetProperty("elements").EnumerateArray());
        Assert.Equal("""{"label": "a", "points": [[1.0, 4.0], [2.0, 5.0], [3.0, null]]}""", element.GetRawText());

        // With show(): at once, and not again at the end; what was closed is not shown by the next code.
        var outcome = await _guest.RunCodeAsync("c", "plt.plot([1]); plt.show(); print('after')");
        Assert.NotNull(outcome.Events[0].Result);
        Assert.Single(outcome.Results);
        Assert.Empty((await _guest.RunCodeAsync("c", "x = 1")).Results);

        // As the value it is the main result, and only that.
        outcome = await _guest.RunCodeAsync("c", "fig = plt.figure(); _ = fig.gca().plot([1, 2]); fig");
        Assert.True(Assert.Single(outcome.Results).IsMain);
        Assert.Contains("image/png", outcome.Results.Single().Data.Keys);

        // A figure that was half drawn when the code failed is gone.
        Assert.Equal("KeyError", (await _guest.RunCodeAsync("c", "plt.plot([1]); raise KeyError()")).Error!.Name);
        Assert.Equal("[]", (await _guest.RunCodeAsync("c", "plt.get_fignums()")).MainText);
    }

    [Fact]
    public async Task Bars_pies_boxes_points_and_several_axes_are_told_apart()
    {
        await StartAsync("python", "c", "matplotlib");
        Assert.Equal(
            """[{"label": "x", "group": "", "value": 1}, {"label": "y", "group": "", "value": 2}]""",
            (await FigureAsync("import matplotlib.pyplot as plt, datetime\n_ = plt.bar(['x', 'y'], [1, 2])")).GetProperty("elements").GetRawText());
        var groups = await FigureAsync("for g, o in (('m', -.2), ('w', .2)):\n    plt.bar([0 + o, 1 + o], [1, 2], .4, label=g)\n_ = plt.xticks(range(2), ['A', 'B'])");
        Assert.Equal(["Am", "Bm", "Aw", "Bw"], groups.GetProperty("elements").EnumerateArray().Select(e => e.GetProperty("label").GetString() + e.GetProperty("group").GetString()));

        var pie = await FigureAsync("_ = plt.pie([1, 3], labels=['p', 'q'])");
        Assert.Equal("pie", pie.GetProperty("type").GetString());
        Assert.Equal([90, 270], pie.GetProperty("elements").EnumerateArray().Select(e => e.GetProperty("angle").GetDouble()));

        var box = (await FigureAsync("_ = plt.boxplot([[1, 2, 3, 4, 100]])")).GetProperty("elements")[0];
        Assert.Equal([1, 2, 3, 4, 4], new[] { "min", "first_quartile", "median", "third_quartile", "max" }.Select(n => box.GetProperty(n).GetDouble()));
        Assert.Equal(100, box.GetProperty("outliers")[0].GetDouble());

        var both = await FigureAsync("fig, ax = plt.subplots(1, 2); fig.suptitle('S'); ax[0].scatter([1], [3]); _ = ax[1].semilogy([1, 2], [10, 100])");
        Assert.Equal("superchart", both.GetProperty("type").GetString());
        Assert.Equal("S", both.GetProperty("title").GetString());
        Assert.Equal(["scatter", "line"], both.GetProperty("elements").EnumerateArray().Select(e => e.GetProperty("type").GetString()));
        Assert.Equal("log", both.GetProperty("elements")[1].GetProperty("y_scale").GetString());

        var dates = await FigureAsync("_ = plt.plot([datetime.date(2024, 1, 2), datetime.date(2024, 1, 3)], [1, 2])");
        Assert.Equal("datetime", dates.GetProperty("x_scale").GetString());
        Assert.Equal("2024-01-02T00:00:00", dates.GetProperty("elements")[0].GetProperty("points")[0][0].GetString());
    }

    [Fact]
    public async Task Large_charts_and_images_are_made_to_fit()
    {
        await StartAsync("python", "c", "matplotlib", "PIL");
        var outcome = await _guest.RunCodeAsync("c", "import matplotlib.pyplot as plt, numpy as np\nfor i in range(20): plt.plot(np.random.rand(20000))\nplt.figure(figsize=(20, 20)); _ = plt.imshow(np.random.rand(2000, 2000))");
        Assert.Equal(2, outcome.Results.Count());
        Assert.All(outcome.Results, r => Assert.Contains("image/png", r.Data.Keys));
        Assert.True(Json(outcome.Results.First(), Chart).GetProperty("truncated").GetBoolean());
        Assert.Equal("", outcome.Stderr);

        outcome = await _guest.RunCodeAsync("c", "from PIL import Image\nImage.fromarray((np.random.rand(1500, 1500, 3) * 255).astype('uint8'))");
        Assert.Equal(["image/jpeg", "text/plain"], outcome.Results.Single().Data.Keys.Order());
        outcome = await _guest.RunCodeAsync("c", "Image.new('RGB', (20, 20))");
        Assert.Equal(["image/png", "text/plain"], outcome.Results.Single().Data.Keys.Order());
    }

    [Fact]
    public async Task Tables_are_told_as_columns_and_cut()
    {
        await StartAsync("python", "c", "pandas");
        var outcome = await _guest.RunCodeAsync("c", "import pandas as pd\npd.DataFrame({'a': [1, 2], 'b': ['x', None], 'c': [float('nan'), 1.5], 'd': pd.to_datetime(['2024-01-02', None])})");
        Assert.Equal([Table, "text/html", "text/plain"], outcome.Results.Single().Data.Keys.Order());
        Assert.Equal(
            """{"columns": {"a": [1, 2], "b": ["x", null], "c": [null, 1.5], "d": ["2024-01-02T00:00:00", null]}, "rows": 2, "truncated": false}""",
            Json(outcome.Results.Single(), Table).GetRawText());
        var large = Json((await _guest.RunCodeAsync("c", "pd.Series(range(5000), name='n')")).Results.Single(), Table);
        Assert.True(large.GetProperty("truncated").GetBoolean());
        Assert.Equal(5000, large.GetProperty("rows").GetInt32());
        Assert.Equal(1000, large.GetProperty("columns").GetProperty("n").GetArrayLength());
    }

    [Fact]
    public async Task Objects_give_the_types_they_have()
    {
        await StartAsync("python");
        var outcome = await _guest.RunCodeAsync("c", "class A:\n    def _repr_html_(self): return '<b>'\n    def _repr_pdf_(self): return b'%PDF'\n    def _repr_json_(self): return {'n': float('nan')}\nA()");
        Assert.Equal(["application/json", "application/pdf", "text/html", "text/plain"], outcome.Results.Single().Data.Keys.Order());
        Assert.Equal("""{"n": null}""", Json(outcome.Results.Single(), "application/json").GetRawText());

        await StartAsync("javascript", "js", []);
        outcome = await _guest.RunCodeAsync("js", "({a: [1, 'x'], b: null})");
        Assert.Equal("""{"a":[1,"x"],"b":null}""", Json(outcome.Results.Single(), "application/json").GetRawText());
        Assert.Equal(["text/plain"], (await _guest.RunCodeAsync("js", "const o = {}; o.o = o; o")).Results.Single().Data.Keys);
        Assert.Equal(["text/plain"], (await _guest.RunCodeAsync("js", "new Map([[1, 2]])")).Results.Single().Data.Keys);
        Assert.Equal(["text/html"], (await _guest.RunCodeAsync("js", "display('<b>x</b>', 'text/html')")).Results.Single().Data.Keys);
    }

    /// <summary>A context; the test is skipped where a library that it needs is not installed.</summary>
    private Task StartAsync(string language) => StartAsync(language, "c", []);

    private async Task StartAsync(string language, string id, params string[] libraries)
    {
        Assert.Equal(Response.ResultOneofCase.Context, (await _guest.CreateContextAsync(id, language)).ResultCase);
        foreach (var library in libraries)
        {
            var found = (await _guest.RunCodeAsync(id, $"import importlib.util as u; u.find_spec('{library}') is not None")).MainText == "True";
            Assert.SkipUnless(found, $"Python has no {library} here.");
        }
    }

    private async Task<JsonElement> FigureAsync(string code)
    {
        var outcome = await _guest.RunCodeAsync("c", code);
        Assert.Null(outcome.Error);
        var result = Assert.Single(outcome.Results);
        Assert.False(result.IsMain);
        Assert.True(result.Data["image/png"].Span[1..4].SequenceEqual("PNG"u8));
        return Json(result, Chart);
    }

    private static JsonElement Json(RichResult result, string type)
    {
        using var document = JsonDocument.Parse(result.Data[type].Memory);
        return document.RootElement.Clone();
    }
}
