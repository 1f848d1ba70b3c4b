"""Subscriptions to clients' metrics (KIP-714), which are configs. A Kafka of the shop takes no metrics, so that the calls
of clients that push them cannot be compared."""

from cases import case
from cases.configs import APPEND, CLIENT_METRICS, DELETE, SET, SUBTRACT


def change(b, *rows):
    configs = [{"Name": name, "ConfigOperation": operation, "Value": value} for name, operation, value in rows]
    return {"ResourceType": CLIENT_METRICS, "ResourceName": b.name("s"), "Configs": configs}


def look(b):
    b.settle()
    asked = {"ResourceType": CLIENT_METRICS, "ResourceName": b.name("s"), "ConfigurationKeys": None}
    b.other("DescribeConfigs", 4, Resources=[asked], IncludeSynonyms=True)


@case("IncrementalAlterConfigs", each={
    "metrics": [("metrics", SET, "a.,b.")], "all": [("metrics", SET, "*")], "no metrics": [("metrics", SET, "")],
    "interval": [("interval.ms", SET, "1000")], "least": [("interval.ms", SET, "100")],
    "too short": [("interval.ms", SET, "99")], "longest": [("interval.ms", SET, "3600000")],
    "too long": [("interval.ms", SET, "3600001")],
    "match": [("match", SET, "client_id=web-.*")], "two": [("match", SET, "client_id=a,client_software_name=b")],
    "every selector": [("match", SET, "client_instance_id=a,client_id=b,client_software_name=c,client_software_version=d,"
                                      "client_source_address=e,client_source_port=f")],
    "unknown selector": [("match", SET, "colour=red")], "no pattern": [("match", SET, "client_id")],
    "broken pattern": [("match", SET, "client_id=(")], "unknown": [("no.such", SET, "1")],
    "append": [("metrics", APPEND, "a.")], "subtract": [("metrics", SUBTRACT, "a.")],
    "append to a number": [("interval.ms", APPEND, "1")], "delete": [("metrics", DELETE, None)],
    "delete unknown": [("no.such", DELETE, None)], "nothing": []})
def client_metrics(b, rows):
    b.ask(Resources=[change(b, *rows)])
    look(b)


@case("IncrementalAlterConfigs")
def client_metrics_step_by_step(b):
    for rows in ([("metrics", SET, "a."), ("interval.ms", SET, "500")], [("metrics", APPEND, "b.,c.")],
                 [("metrics", SUBTRACT, "a.")], [("interval.ms", DELETE, None)], [("metrics", DELETE, None)]):
        b.ask(Resources=[change(b, *rows)])
        look(b)


@case("IncrementalAlterConfigs")
def client_metrics_without_name(b):
    b.ask(Resources=[change(b, ("metrics", SET, "a.")) | {"ResourceName": ""}])


@case("IncrementalAlterConfigs")
def client_metrics_validate_only(b):
    b.ask(Resources=[change(b, ("metrics", SET, "a."))], ValidateOnly=True)
    look(b)


@case("DescribeConfigs", each={"unknown": "no-such-subscription", "empty": ""})
def client_metrics_of(b, name):
    b.ask(Resources=[{"ResourceType": CLIENT_METRICS, "ResourceName": name, "ConfigurationKeys": None}])


@case("ListConfigResources")
def client_metrics_listed(b):
    b.prepare("IncrementalAlterConfigs", 1, Resources=[change(b, ("metrics", SET, "a."))])
    b.settle()

    def own(answer):
        return answer | {"ConfigResources": [one for one in answer["ConfigResources"]
                                             if one["ResourceName"].startswith(b.prefix)]}
    b.ask(own)
    b.prepare("IncrementalAlterConfigs", 1, Resources=[change(b, ("metrics", DELETE, None))])
